"""Weights nearly all of which are zero: how many zeros are between the others, and codes for these."""

from __future__ import annotations

import numpy as np

from tfcompress.export.onnx.weights import decoders
from tfcompress.export.onnx.weights.bits import GROUP, pack, packed_bytes, unpack
from tfcompress.export.onnx.weights.form import TENSOR, Parts, StorageForm, Weight, Writer, called
from tfcompress.export.onnx.weights.table import Codes, place_values

MOST = 1 / 3
"""Of the weights that aren't zero, up to which gaps may be smaller than a mask."""


class Gaps(StorageForm):
    """Gaps between what isn't zero, and codes; a gap that has too few bits is bridged with zeros that have codes.

    Args:
        gap_bits: Of a gap, 1 to 8.
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
        count = _filled(weight.bridged(self.gap_bits))
        codes = self.codes.nbytes(_values(weight), count)
        if codes is None:
            return None
        gaps = packed_bytes(count, self.gap_bits) + self.gap_bits
        return codes + gaps + 2 * TENSOR + called(weight.integers.shape)

    def encode(self, weight: Weight) -> Parts:
        """Return the gaps, and the codes of what stands behind each."""
        bridges = (weight.distances - 1) >> self.gap_bits
        ends = np.cumsum(bridges + 1) - 1
        count = _filled(int(ends[-1]) + 1)
        gaps = np.full(count, 2**self.gap_bits - 1, np.uint8)
        gaps[ends] = (weight.distances - 1) & (2**self.gap_bits - 1)
        gaps[ends[-1] + 1 :] = 0
        integers = np.zeros(count, np.int8)
        integers[ends] = weight.flat[weight.flat != 0]
        return {"gaps": pack(gaps, self.gap_bits), **self.codes.encode(integers, _values(weight))}

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> np.ndarray:
        """Return the integers."""
        made = np.zeros(2 * int(np.prod(shape)), np.int8)  # the fillers at the end stand behind the weight
        made[np.cumsum(unpack(parts["gaps"]) + 1) - 1] = self.codes.decode(parts)
        return made[: made.size // 2].reshape(shape)

    def write(self, parts: Parts, shape: tuple[int, ...], writer: Writer, output: str) -> None:
        """Add the constants and nodes."""
        given = [writer.constant(parts["gaps"]), writer.constant(place_values(self.gap_bits))]
        writer.decode(decoders.GAPS, [*given, self.codes.write(parts, writer)], output, shape)

    def __str__(self) -> str:
        return f"{self.gap_bits}-bit gaps, {self.codes.bits}-bit codes"


def _values(weight: Weight) -> list[int]:
    return sorted({*weight.histogram, 0})


def _filled(count: int) -> int:
    """Return how many places there are where the last group is filled up: with gaps of 0 and zeros."""
    return -(-count // GROUP) * GROUP
