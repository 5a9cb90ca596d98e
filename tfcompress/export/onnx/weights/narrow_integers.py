"""Weights of ONNX' own types of 4 and 2 bits, widened by a Cast."""

from __future__ import annotations

import numpy as np

from tfcompress.export.onnx.weights.form import NODE, TENSOR, Parts, StorageForm, Weight, Writer


class NarrowIntegers(StorageForm):
    """INT4 or INT2.

    Args:
        bits: 4 or 2.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.opset = {4: 21, 2: 25}[bits]

    def nbytes(self, weight: Weight) -> int | None:
        """Return about how many bytes of a file the weight takes; None: it doesn't fit."""
        least, most = min(weight.histogram, default=0), max(weight.histogram, default=0)
        if least < -(2 ** (self.bits - 1)) or most >= 2 ** (self.bits - 1):
            return None
        return TENSOR + NODE + 10 + -(-weight.flat.size * self.bits // 8)

    def encode(self, weight: Weight) -> Parts:
        """Return the bytes: the first integer is in the lowest bits."""
        fields = 8 // self.bits
        flat = weight.flat.view(np.uint8) & np.uint8(2**self.bits - 1)
        flat = np.append(flat, np.zeros(-flat.size % fields, np.uint8)).reshape(-1, fields)
        shifts = np.arange(fields, dtype=np.uint8) * np.uint8(self.bits)
        return {"integers": np.bitwise_or.reduce(flat << shifts, axis=1)}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> np.ndarray:
        """Return the integers."""
        shifts = np.arange(0, 8, self.bits, dtype=np.uint8)
        fields = (parts["integers"][:, None] >> shifts) & np.uint8(2**self.bits - 1)
        signed = fields.reshape(-1)[: int(np.prod(shape))].astype(np.int8)
        return np.where(signed >= 2 ** (self.bits - 1), signed - 2**self.bits, signed).astype(np.int8).reshape(shape)

    def write(self, parts: Parts, shape: tuple[int, ...], writer: Writer, output: str) -> None:
        """Add the constant and the Cast."""
        import onnx

        kind = onnx.TensorProto.INT4 if self.bits == 4 else onnx.TensorProto.INT2
        stored = writer.packed(parts["integers"].tobytes(), kind, shape)
        writer.add("Cast", [stored], output, to=onnx.TensorProto.INT8)

    def __str__(self) -> str:
        return f"INT{self.bits}"
