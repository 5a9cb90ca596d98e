"""A weight of a `.tflite` or `.onnx` file, as the real numbers that it stands for."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfcompress.evaluation.tensor_grid import TensorGrid


@dataclasses.dataclass(frozen=True, eq=False)
class FileWeight:
    """A constant of two or more dimensions that a file computes with.

    Attributes:
        names: of what reads it, which tell the layer, then its own.
        values: real numbers, float32, as the file has laid them; of a recurrent operator one direction, gates in the
            order of Keras.
        dtype: what it is stored as, such as "int8".
        nbytes: that it takes in the file, with its scales and zero points.
        grid: of its numbers; None: it is float.
    """

    names: tuple[str, ...]
    values: np.ndarray
    dtype: str
    nbytes: int
    grid: TensorGrid | None
