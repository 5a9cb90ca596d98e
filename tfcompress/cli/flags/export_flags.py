"""Flags of the files that models are exported to."""

from __future__ import annotations

from tfcompress.cli.flags.flag import Flag

_AT_ONCE = 1 << 20

TITLE = "Exported files"

FLAGS = {
    "target": Flag(
        "What the files are for: microcontroller, android, server-cpu, server-gpu, web, ethos-u55-128 and the like, or "
        "a .yaml file of your own. It fixes what isn't said, and refuses what it can't do before any work.",
        shown="TARGET",
    ),
    "precision": Flag(
        "How the weights are stored.",
        "float32",
        "choice",
        choices=("float32", "float16"),
        advice=" For integers quantize the model first, with `tfcompress quantize`.",
    ),
    "sparse": Flag(
        "Leave the zeros out of .tflite files, where their runtime reads that (.onnx files store all).", False, "switch"
    ),
    "prefer": Flag(
        "What counts where weights of fewer than 8 bits can't have both in .tflite files: speed, or size.",
        "speed",
        "choice",
        choices=("speed", "size"),
    ),
    "names": Flag("Keep the names of inner tensors in .tflite files of quantized models.", False, "switch"),
    "inference_io": Flag(
        "What the files take and give; integers are for models with activations in 8 bits, as int8 has. By default "
        "float32, or the target's.",
        None,
        "choice",
        choices=("float32", "int8", "uint8"),
    ),
    "opset": Flag("Of the ONNX standard; TFLite has none.", "18", "choice", choices=tuple(map(str, range(18, 26)))),
    "weights": Flag(
        "How .onnx files store integer weights: 'coded' in the form that takes the fewest bytes, which ONNX Runtime "
        "unpacks when it loads the file; 'auto' so where the file gets smaller, and weights of 3 and 4 bits of large "
        "dense layers with float activations for an operator of ONNX Runtime's own, where that is fast.",
        "plain",
        "choice",
        choices=("plain", "coded", "auto"),
    ),
    "external_data": Flag(
        "Put the weights of .onnx files in a second file beside each, <name>.onnx.data; by default only where they are "
        "more than one file holds, 2 GB.",
        None,
        "switch",
    ),
    "require_integer": Flag(
        "Refuse files in which any operator computes in float, and say which and why.", False, "switch"
    ),
    "stateful": Flag(
        "How states that inference changes are exported, as of a streaming model: 'io' makes them inputs and outputs "
        "of the files; by default such models are refused.",
        None,
        "choice",
        choices=("io",),
    ),
    "random": Flag(
        "How random numbers that inference draws are exported, as a VAE does: 'inputs' makes them inputs of the files; "
        "by default such models are refused.",
        None,
        "choice",
        choices=("inputs",),
    ),
    "export_batch_size": Flag(
        "Samples that the file takes at once, 0 for any number; by default 1 in TFLite and any number in ONNX.",
        None,
        "integer",
        "N",
        0,
        _AT_ONCE,
    ),
}
