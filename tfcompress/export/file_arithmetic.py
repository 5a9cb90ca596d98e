"""In what numbers the operators of a written file compute: integers or floats, and which."""

from __future__ import annotations

import os
import pathlib

from tfcompress.export.onnx import node_arithmetic
from tfcompress.export.plan.file_operators import FileArithmetic
from tfcompress.export.tflite import operator_arithmetic
from tfcompress.runtime.runner import format_of


def read_arithmetic(path: str | os.PathLike[str]) -> FileArithmetic:
    """Read in what numbers a file computes.

    Args:
        path: Of a `.tflite` or `.onnx` file, written by anyone.
    """
    module = operator_arithmetic if format_of(path) == "tflite" else node_arithmetic
    return module.read(pathlib.Path(path))
