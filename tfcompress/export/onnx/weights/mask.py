"""Weights with many zeros: a bit for each says whether it is one; codes for the others."""

from __future__ import annotations

import numpy as np

from tfcompress.export.onnx.weights import decoders
from tfcompress.export.onnx.weights.bits import pack, packed_bytes, unpack
from tfcompress.export.onnx.weights.form import TENSOR, Parts, StorageForm, Weight, Writer, called
from tfcompress.export.onnx.weights.table import Codes, place_values


class Mask(StorageForm):
    """A mask of 1 bit, and codes.

    Args:
        bits: Of a code, 1 to 8.
    """

    def __init__(self, bits: int) -> None:
        self.codes = Codes(bits)
        self.decoders = decoders.NEEDED[decoders.MASK] | self.codes.decoders

    def nbytes(self, weight: Weight) -> int | None:
        """Return about how many bytes of a file the weight takes; None: it doesn't fit."""
        codes = self.codes.nbytes(weight.values, weight.nonzeros)
        if codes is None or not weight.nonzeros:
            return None
        return codes + 2 * TENSOR + packed_bytes(weight.flat.size, 1) + called(weight.integers.shape)

    def encode(self, weight: Weight) -> Parts:
        """Return the mask, and the codes of what isn't zero."""
        mask = weight.flat != 0
        return {"mask": pack(mask, 1), **self.codes.encode(weight.flat[mask], weight.values)}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> np.ndarray:
        """Return the integers."""
        bits = unpack(parts["mask"])
        values = np.append(np.int8(0), self.codes.decode(parts))
        return np.asarray(values[np.cumsum(bits) * bits][: int(np.prod(shape))].reshape(shape))

    def write(self, parts: Parts, shape: tuple[int, ...], writer: Writer, output: str) -> None:
        """Add the constants and nodes."""
        given = [writer.constant(parts["mask"]), writer.constant(place_values(1))]
        writer.decode(decoders.MASK, [*given, self.codes.write(parts, writer)], output, shape)

    def __str__(self) -> str:
        return f"1-bit mask, {self.codes.bits}-bit codes"
