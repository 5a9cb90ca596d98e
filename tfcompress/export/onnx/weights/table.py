"""Weights of few distinct integers: places in a table of these."""

from __future__ import annotations

import numpy as np

from tfcompress.export.onnx.weights import decoders
from tfcompress.export.onnx.weights.bits import pack, packed_bytes, unpack
from tfcompress.export.onnx.weights.form import NODE, TENSOR, Parts, StorageForm, Weight, Writer, called

LARGE = 2**16
"""Integers of a weight from which on a table of 4 or 2 bits isn't worth its time where the weight fits without one."""


def fits_bits(values: list[int], bits: int) -> bool:
    """Return whether some integers, in rising order, lie within the range of so many bits.

    >>> fits_bits([-8, 7], 4), fits_bits([0, 8], 4), fits_bits([], 4)
    (True, False, False)
    """
    half = 2 ** (bits - 1)
    return bool(values) and -half <= values[0] and values[-1] < half


def table_of(values: list[int], bits: int) -> np.ndarray | None:
    """Return a table that has all of some integers, at most 2^bits of them; None: they are too many.

    What lies within the range of so many bits gets the whole range: weights share that table then.

    >>> table_of([-1, 2], 2), table_of([-5, 5], 1), table_of([1, 2, 3], 1)
    (None, array([-5,  5], dtype=int8), None)
    >>> table_of([-1, 1], 2)
    array([-2, -1,  0,  1], dtype=int8)
    """
    if len(values) > 2**bits:
        return None
    if bits > 1 and fits_bits(values, bits):
        return np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1), dtype=np.int8)
    return np.array(values, np.int8) if 2 ** (bits - 1) < len(values) or bits == 1 else None


def indices(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the places of integers in a table that has them, uint8."""
    places = np.zeros(256, np.uint8)
    places[table.view(np.uint8)] = np.arange(table.size)
    return places[values.view(np.uint8)]


class Codes:
    """Integers as places in a table, of some bits each.

    Args:
        bits: 1 to 7; or 8: the integers themselves, without a table.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.decoders = frozenset() if bits == 8 else decoders.NEEDED[decoders.VALUES]

    def nbytes(self, values: list[int], count: int) -> int | None:
        """Return about how many bytes so many of some distinct integers take; None: they don't fit."""
        if self.bits == 8:
            return TENSOR + count
        table = table_of(values, self.bits)
        if table is None:
            return None
        return 3 * TENSOR + table.size + self.bits + packed_bytes(count, self.bits) + NODE

    def encode(self, integers: np.ndarray, values: list[int]) -> Parts:
        """Return the table of some integers, and their places in it."""
        if self.bits == 8:
            return {"codes": integers}
        table = table_of(values, self.bits)
        assert table is not None, "codes that don't fit are never chosen"
        return {"codes": pack(indices(integers, table), self.bits), "table": table}

    def decode(self, parts: Parts) -> np.ndarray:
        """Return the integers, and what fills up behind them."""
        return parts["codes"] if self.bits == 8 else parts["table"][unpack(parts["codes"])]

    def write(self, parts: Parts, writer: Writer) -> str:
        """Add the constants and the node that make the integers; return their name."""
        if self.bits == 8:
            return writer.constant(parts["codes"])
        return writer.decode(decoders.VALUES, self.inputs(parts, writer))

    def inputs(self, parts: Parts, writer: Writer) -> list[str]:
        """Add the constants of codes that have a table; return their names, as the decoder takes them."""
        return [writer.constant(part) for part in (parts["codes"], place_values(self.bits), parts["table"])]


def place_values(bits: int) -> np.ndarray:
    """Return what each bit of an integer counts."""
    return 2 ** np.arange(bits, dtype=np.uint8)


class Table(StorageForm):
    """Every weight as a place in a table.

    Args:
        bits: Of a place, 1 to 7.
    """

    decoders = decoders.NEEDED[decoders.TABLE]

    def __init__(self, bits: int) -> None:
        self.codes = Codes(bits)

    def nbytes(self, weight: Weight) -> int | None:
        """Return about how many bytes of a file the weight takes; None: it doesn't fit."""
        values = list(weight.histogram)
        if weight.flat.size >= LARGE and self.codes.bits in (2, 4) and fits_bits(values, self.codes.bits):
            return None
        codes = self.codes.nbytes(values, weight.flat.size)
        return None if codes is None else codes - NODE + called(weight.integers.shape)

    def encode(self, weight: Weight) -> Parts:
        """Return the table and the places."""
        return self.codes.encode(weight.flat, list(weight.histogram))

    def decode(self, parts: Parts, shape: tuple[int, ...]) -> np.ndarray:
        """Return the integers."""
        return self.codes.decode(parts)[: int(np.prod(shape))].reshape(shape)

    def write(self, parts: Parts, shape: tuple[int, ...], writer: Writer, output: str) -> None:
        """Add the constants and the node."""
        writer.decode(decoders.TABLE, self.codes.inputs(parts, writer), output, shape)

    def __str__(self) -> str:
        return f"table, {self.codes.bits}-bit indices"
