"""Numbers that arithmetic of quantization can start from: finite, in order, and no wider apart than float32 holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.core.arguments import is_whole, short
from tfcompress.data.array_checks import check_unmasked

LEAST_BITS, MOST_BITS = 2, 16


def check_bits(bits: Any, name: str = "bits") -> int:
    """Return `bits` as an int; raise ValueError unless it is a whole number, of any type, that a grid may have."""
    if not is_whole(bits) or not LEAST_BITS <= bits <= MOST_BITS:
        raise ValueError(
            f"Expected {name} to be a whole number from {LEAST_BITS} to {MOST_BITS}. Received: {name}={bits!r}."
        )
    return int(bits)


def array_of(x: Any, name: str) -> np.ndarray:
    """Return `x` as an array; raise ValueError if it is none, as rows of several lengths are."""
    check_unmasked(x, name)
    try:
        return np.asarray(x)
    except Exception as error:  # whatever an `__array__` of somebody else's raises
        raise ValueError(f"Expected {name} to be an array of numbers. Received: {short(x)} ({error}).") from None


def checked(x: Any, name: str = "x") -> np.ndarray:
    """Return `x` as a float32 array; raise ValueError unless it holds finite numbers, at least one."""
    x = array_of(x, name)
    if x.dtype.kind not in "fiu" and x.dtype.name != "bfloat16":
        raise ValueError(f"Expected {name} to hold real numbers. Received: dtype {x.dtype}.")
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if not x.size:
        raise ValueError(f"Expected {name} to hold at least one value. Received: shape {x.shape}.")
    strange = np.count_nonzero(~np.isfinite(x))
    if strange:
        raise ValueError(f"Expected {name} to hold finite float32 numbers. Received: {strange} that are not.")
    return x


def checked_range(minimum: Any, maximum: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of ranges as float32; raise ValueError if one is not finite, in the wrong order or too wide.

    >>> checked_range(1.0, 0.0)
    Traceback (most recent call last):
    ...
    ValueError: Expected maximum to be at least minimum. Received: a range that ends below its start, 1 to 0.
    """
    low, high = checked(minimum, "minimum"), checked(maximum, "maximum")
    below = np.ravel(np.broadcast_arrays(low, high)[0] > high)
    if below.any():
        at = int(np.argmax(below))
        ends = [float(np.ravel(end)[at]) for end in np.broadcast_arrays(low, high)]
        raise ValueError(
            "Expected maximum to be at least minimum. Received: a range that ends below its start, "
            f"{ends[0]:.6g} to {ends[1]:.6g}."
        )
    with np.errstate(over="ignore"):
        wide = ~np.isfinite(high - low)
    if wide.any():
        raise ValueError(
            "Expected a range no wider than the largest float32, 3.4e38. "
            f"Received: {float(low.min()):.6g} to {float(high.max()):.6g}. Scale the values down."
        )
    return low, high


def checked_limit(limit: Any) -> np.ndarray:
    """Return the limits of symmetric ranges as float32; raise ValueError if one is below 0 or not finite."""
    found = checked(limit, "limit")
    if found.min() < 0:
        raise ValueError(f"Expected limit to be at least 0. Received: {float(found.min()):.6g}.")
    return found
