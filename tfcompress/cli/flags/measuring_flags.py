"""Flags of what is measured, and how."""

from __future__ import annotations

from tfcompress.cli.flags.flag import Flag
from tfcompress.cli.flags.pruning_flags import are_sparsities
from tfcompress.core.limits import MOST, MOST_THREADS

RUNTIMES = ("litert", "tflm", "onnxruntime")
METRICS = ("accuracy", "macro_f1", "roc_auc", "r2", "mse", "mae")


def _are_bits(values: list[str] | None) -> bool:
    return all(value.strip().isdecimal() and 2 <= int(value) <= 16 for value in values or ())


TITLE = "Measuring"

FLAGS = {
    "threads": Flag("Threads of one inference.", 1, "integer", "N", 1, MOST_THREADS),
    "file_target": Flag(
        "What the .tflite and .onnx files are for: microcontroller, ethos-u55-128, android, server-cpu and the like, "
        "or a .yaml file of your own. They are run in the runtime that proves such files, and refused if they have "
        "what the target can't do.",
        shown="TARGET",
        called="target",
    ),
    "runtime": Flag(
        "What runs the files: litert, onnxruntime, or tflm for TFLite Micro; by default the target's, or that of their "
        "format.",
        None,
        "choice",
        choices=RUNTIMES,
    ),
    "ram": Flag(
        "Bytes of RAM that a microcontroller has; the table says which files fit.",
        None,
        "integer",
        "BYTES",
        1,
        MOST,
    ),
    "flash": Flag(
        "Bytes of flash that it has for a file; the table says which fit.", None, "integer", "BYTES", 1, MOST
    ),
    "timed_batch_size": Flag(
        "Samples in one inference; a file with a fixed batch keeps its own.",
        1,
        "integer",
        "N",
        1,
        1 << 20,
        called="batch_size",
    ),
    "runs": Flag("Timed runs of each; by default as many as fit into two seconds.", None, "integer", "N", 1, 1_000_000),
    "sparsities": Flag(
        "Shares of zeros to try in each layer, separated by commas; by default 0.3,0.5,0.7,0.9.",
        kind="list",
        shown="SHARE,SHARE",
        valid=are_sparsities,
        wanted="Expected shares of zeros in [0, 1), such as 0.5,0.8,0.9.",
    ),
    "bits": Flag(
        "Widths of weights, 2 to 16, to try instead of sparsities, separated by commas.",
        kind="list",
        shown="BITS,BITS",
        valid=_are_bits,
        wanted="Expected widths of 2 to 16 bits, such as 4,8.",
    ),
    "metric": Flag("What is measured.", "accuracy", "choice", choices=METRICS),
    "evaluation_batch_size": Flag("Samples at once.", 32, "integer", "N", 1, MOST, called="batch_size"),
}
