"""Integers of fewer than 8 bits, several to a byte, the first in its lowest bits."""

from __future__ import annotations

import numpy as np

BITS = {"INT8": 8, "INT4": 4, "INT2": 2}
"""Of the types of tensors that hold weights."""


def pack(integers: np.ndarray, bits: int) -> np.ndarray:
    """Return integers as bytes.

    Args:
        integers: int8, each within `bits`.
        bits: 2, 4 or 8.

    >>> pack(np.array([[1, -2], [7, 0]], "int8"), 4).tolist()
    [225, 7]
    """
    if bits == 8:
        return integers.view(np.uint8) if integers.flags.c_contiguous else np.ascontiguousarray(integers).view(np.uint8)
    count = 8 // bits
    flat = np.ascontiguousarray(integers, np.int8).reshape(-1).view(np.uint8)
    flat = np.pad(flat, (0, -flat.size % count)).reshape(-1, count) & (2**bits - 1)
    shifted = flat << np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(shifted, axis=1)


def unpack(data: np.ndarray, bits: int, size: int | None = None, *, signed: bool = True) -> np.ndarray:
    """Return the integers that bytes hold, flat.

    Args:
        data: The bytes.
        bits: 2, 4 or 8.
        size: How many integers; `None`: all that there is room for.
        signed: Whether the highest bit is a sign.

    >>> unpack(np.array([225, 7], "uint8"), 4, 3).tolist()
    [1, -2, 7]
    """
    fields = np.asarray(data, np.uint8)[:, None] >> np.arange(0, 8, bits, dtype=np.uint8)
    if not signed:
        return (fields & (2**bits - 1)).reshape(-1)[:size]
    # Shifted up to the sign and down again.
    return ((fields << (8 - bits)).view(np.int8) >> (8 - bits)).reshape(-1)[:size]
