"""Bilinear resizing in the numbers of TFLite's reference kernel: 1024ths of what lies between pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

Tensor = Any

BITS = 10


def resized(x: Tensor, sizes: tuple[int, int], zero: Tensor) -> Tensor:
    """Return images of whole numbers in another size, rounded away from zero with their zero point.

    Args:
        x: Integers, counted from zero, float32: (batch, height, width, channels).
        sizes: The height and the width wanted.
        zero: The zero point, counted from the lowest integer of 8 bits.
    """
    shift = zero - 128.0
    raw = ops.cast(x + shift, "float64")
    rows, columns = (_weights(given, wanted) for given, wanted in zip(x.shape[1:3], sizes, strict=True))
    sums = ops.einsum("ip,jq,bpqc->bijc", rows, columns, raw)
    whole = ops.sign(sums) * ops.floor((ops.abs(sums) + 2.0 ** (2 * BITS - 1)) / 2.0 ** (2 * BITS))
    return ops.cast(whole, "float32") - shift


def _weights(given: int, wanted: int) -> np.ndarray:
    """Return how much of each pixel along an axis is in each that is wanted, in 1024ths."""
    one = 1 << BITS
    step = (one * given + wanted // 2) // wanted
    found = np.zeros((wanted, given))
    for place in range(wanted):
        at = place * step + step // 2 - one // 2
        lower = max(at // one, 0)
        upper = min(max((at + one - 1) // one, 0), given - 1)
        found[place, lower] += one - (at - one * lower)
        found[place, upper] += at - one * lower
    return found
