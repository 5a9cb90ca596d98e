"""Weights as they are, in 8 bits."""

from __future__ import annotations

import numpy as np

from tfcompress.export.onnx.weights.form import TENSOR, Parts, StorageForm, Weight, Writer


class Plain(StorageForm):
    """int8."""

    def nbytes(self, weight: Weight) -> int | None:
        """Return about how many bytes of a file the weight takes."""
        return TENSOR + weight.integers.size

    def encode(self, weight: Weight) -> Parts:
        """Return the integers."""
        return {"integers": weight.flat}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> np.ndarray:
        """Return the integers."""
        return parts["integers"].reshape(shape)

    def write(self, parts: Parts, shape: tuple[int, ...], writer: Writer, output: str) -> None:
        """Add the constant, called `output`."""
        import onnx

        writer.constants.append(onnx.numpy_helper.from_array(parts["integers"].reshape(shape), output))

    def __str__(self) -> str:
        return "int8"
