"""Small integers packed into bytes, bit by bit: the lowest bits of all, then the next ones."""

from __future__ import annotations

import numpy as np

GROUP = 8
"""Values whose bits are whole bytes."""


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes `pack` makes of so many values."""
    return -(-count // GROUP) * bits


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """Return integers of a few bits as bytes, of shape (bits, 1, n): each bit has a row, filled up with zeros.

    The lowest bits of a row's bytes are those of the first n integers, the next ones those of the next n.

    Args:
        values: 0 to 2^bits - 1, flat.
        bits: 1 to 8.

    >>> pack(np.array([1, 0, 3, 2], "uint8"), 2).tolist()
    [[[5]], [[12]]]
    """
    columns = np.append(values.astype(np.uint8), np.zeros(-values.size % GROUP, np.uint8)).reshape(GROUP, -1)
    packed = np.zeros((bits, 1, columns.shape[1]), np.uint8)
    for bit in range(bits):
        for place, column in enumerate(columns):
            packed[bit, 0] |= ((column >> np.uint8(bit)) & np.uint8(1)) << np.uint8(place)
    return packed


def unpack(data: np.ndarray) -> np.ndarray:
    """Return what `pack` packed, and the zeros behind it, int32.

    >>> unpack(np.array([[[5]], [[12]]], "uint8")).tolist()
    [1, 0, 3, 2, 0, 0, 0, 0]
    """
    rows = np.unpackbits(data, axis=1, bitorder="little").reshape(len(data), -1).astype(np.int32)
    return (rows << np.arange(len(data))[:, None]).sum(axis=0, dtype=np.int32)
