"""Weights most of which are zero: how far the others stand from one another, in Rice's code, and codes for these.

A distance is so many steps of 2^k places, less a remainder of k bits. For each there are as many bits as steps, the
last of them 1: up to there so many steps were taken, and the sum of all remainders is how far to go back.
"""

from __future__ import annotations

import numpy as np

from tfcompress.export.onnx.weights import decoders
from tfcompress.export.onnx.weights.bits import GROUP, pack, packed_bytes, unpack
from tfcompress.export.onnx.weights.form import TENSOR, Parts, StorageForm, Weight, Writer, called
from tfcompress.export.onnx.weights.table import Codes, place_values

MOST = 1 / 3
"""Of the weights that aren't zero, up to which distances may be smaller than a mask."""

INPUTS = 20
"""Bytes of a call's inputs beyond three, and of a 1 and a 2^k."""


class Gaps(StorageForm):
    """Distances between what isn't zero, and codes.

    Args:
        gap_bits: Of the remainder of a distance, 1 to 7.
        bits: Of a code, 1 to 8.
    """

    def __init__(self, gap_bits: int, bits: int) -> None:
        self.gap_bits = gap_bits
        self.codes = Codes(bits)
        self.decoders = decoders.NEEDED[decoders.GAPS] | self.codes.decoders

    def nbytes(self, weight: Weight) -> int | None:
        """Return about how many bytes of a file the weight takes; None: it doesn't fit."""
        if weight.flat.size < GROUP or not 0 < weight.nonzeros <= weight.flat.size * MOST:
            return None
        count = weight.distances.size
        codes = self.codes.nbytes(weight.values, count)
        if codes is None:
            return None
        steps = packed_bytes(weight.steps(self.gap_bits), 1)
        remainders = packed_bytes(count, self.gap_bits) + self.gap_bits
        return codes + steps + remainders + 5 * TENSOR + INPUTS + called(weight.integers.shape)

    def encode(self, weight: Weight) -> Parts:
        """Return the 1s behind all steps, the remainders, and the codes of what stands there."""
        steps = ((weight.distances - 1) >> self.gap_bits) + 1
        ones = np.zeros(steps.sum(), np.uint8)
        ones[np.cumsum(steps) - 1] = 1
        remainders = (steps << self.gap_bits) - weight.distances
        integers = np.full(steps.size, weight.values[0], np.int8)  # what stands behind the end may be any
        integers[: weight.nonzeros] = weight.flat[weight.flat != 0]
        codes = self.codes.encode(integers, weight.values)
        return {"steps": pack(ones, 1), "remainders": pack(remainders, self.gap_bits), **codes}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> np.ndarray:
        """Return the integers."""
        made = np.zeros(2 * int(np.prod(shape)), np.int8)  # some stand behind the weight's end
        behind = (np.flatnonzero(unpack(parts["steps"])) + 1) << self.gap_bits
        made[behind - np.cumsum(unpack(parts["remainders"])) - 1] = self.codes.decode(parts)
        return made[: made.size // 2].reshape(shape)

    def write(self, parts: Parts, shape: tuple[int, ...], writer: Writer, output: str) -> None:
        """Add the constants and nodes."""
        step = np.array(2**self.gap_bits, np.int32)
        given = (parts["steps"], place_values(1), step, parts["remainders"], place_values(self.gap_bits))
        inputs = [*map(writer.constant, given), self.codes.write(parts, writer)]
        writer.decode(decoders.GAPS, inputs, output, shape)

    def __str__(self) -> str:
        return f"gaps with {self.gap_bits}-bit remainders, {self.codes.bits}-bit codes"
