"""Flags of what is measured, and how."""

from __future__ import annotations

from tfcompress.cli.flags.flag import Flag
from tfcompress.cli.flags.pruning_flags import are_sparsities
from tfcompress.core.limits import MOST, MOST_THREADS

METRICS = ("accuracy", "macro_f1", "roc_auc", "r2", "mse", "mae")


def _are_bits(values: list[str] | None) -> bool:
    return all(value.strip().isdecimal() and 2 <= int(value) <= 16 for value in values or ())


TITLE = "Measuring"

FLAGS = {
    "threads": Flag("Threads of one inference.", 1, "integer", "N", 1, MOST_THREADS),
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
