"""Small integers packed into bytes, bit by bit: the lowest bits of all, then the next ones."""

from __future__ import annotations

import numpy as np

GROUP = 8
"""Values whose bits are whole bytes."""


def packed_bytes(count: int, bits: int) -> int:
    """Return how many bytes `pack` makes of so many values."""
    return -(-count // GROUP) * bits


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """Return integers of a few bits as bytes, of shape (bits, n, 1): each bit has a row, filled up with zeros.

    Args:
        values: 0 to 2^bits - 1, flat.
        bits: 1 to 8.

    >>> pack(np.array([1, 0, 3, 2], "uint8"), 2).tolist()
    [[[5]], [[12]]]
    """
    rows = [np.packbits(values & np.uint8(1 << bit), bitorder="little") for bit in range(bits)]
    return np.stack(rows)[:, :, None]


def unpack(data: np.ndarray) -> np.ndarray:
    """Return what `pack` packed, and the zeros behind it, int32.

    >>> unpack(np.array([[[5]], [[12]]], "uint8")).tolist()
    [1, 0, 3, 2, 0, 0, 0, 0]
    """
    rows = np.unpackbits(data[:, :, 0], axis=1, bitorder="little").astype(np.int32)
    return (rows << np.arange(len(data))[:, None]).sum(axis=0, dtype=np.int32)
