"""Flags of a search within a budget."""

from __future__ import annotations

from tfcompress.cli.flags.flag import Flag

TITLE = "Budget"

MINIMIZE = ("size", "zip", "latency", "arena")
FORMATS = ("tflite", "onnx")

FLAGS = {
    "max_drop": Flag(
        "By how much the metric may be worse than the float model's: in points of accuracy, else in its own unit. The "
        "smallest file is chosen that is shown to keep it; one that is clearly worse isn't judged to the end.",
        None,
        "number",
        "POINTS",
        0.0,
        1e12,
        valid=lambda value: value is None or value > 0,
        wanted="Expected --max_drop above 0, in points of accuracy.",
    ),
    "minimize": Flag(
        "What is made small within --max_drop: a file's bytes, its bytes once deflated, ms of an inference here, or "
        "RAM of a microcontroller. With --target=ethos-u55-128 and the like: flash, RAM and ms that Vela estimates.",
        "size",
        "choice",
        choices=MINIMIZE,
    ),
    "formats": Flag(
        "Which files, between commas, within --max_drop: tflite, onnx; by default both, or those of --target.",
        list(FORMATS),
        "list",
        "FORMAT,FORMAT",
        valid=lambda given: given is None or set(given) <= set(FORMATS),
        wanted="Expected --formats to be tflite, onnx or both.",
    ),
    "max_seconds": Flag(
        "Of the search within --max_drop, all calls together: it then ends with what it has found.",
        None,
        "number",
        "SECONDS",
        0.0,
        1e9,
        valid=lambda value: value is None or value > 0,
        wanted="Expected --max_seconds above 0.",
    ),
}
