"""The limits of weights' grids: the largest |w|, or what makes the least squared error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfcompress.core.arguments import check_choice
from tfcompress.quantization.numerics.fake_quant import Axis, check_axes
from tfcompress.quantization.numerics.finite import check_bits, checked
from tfcompress.quantization.quantize_config import WEIGHT_RANGES

LEAST_RATIO = 1 / 128
"""Searches try ranges from that part of the extremes to all of it."""


def weight_limit(x: Any, axis: Axis = None, bits: int = 8, range: str = "minmax") -> np.ndarray:
    """Return the limit of each channel's symmetric grid.

    Args:
        x: Weights, float.
        axis: The channel axes, in order; `None`: one limit for all.
        bits: 2 to 16.
        range: "minmax": the largest |x|; "mse": the limit, at most that, of least squared error.

    Returns:
        float32, of the shape of `x` along `axis`; 0 where all weights are.

    Raises:
        ValueError: If an argument is out of range, or `x` is empty or not finite.

    Example:

    >>> weight_limit([[1.0, -4.0], [0.5, 2.0]], axis=1).tolist()
    [1.0, 4.0]
    """
    bits = check_bits(bits)
    check_choice("range", range, WEIGHT_RANGES)
    x = checked(x)
    axes = () if axis is None else check_axes(axis, x.ndim)
    others = tuple(a for a in np.arange(x.ndim).tolist() if a not in axes)
    largest = np.max(np.abs(x), axis=others, keepdims=True)
    if range == "minmax":
        return np.squeeze(largest, others)
    steps = np.float32(2 ** (bits - 1) - 1)
    x = x / np.where(largest == 0, np.float32(1), largest)  # its squares neither overflow nor vanish
    buffer = np.empty_like(x)

    def error(ratio: np.ndarray) -> np.ndarray:
        scale = (ratio / steps).astype(np.float32)
        np.divide(x, scale, out=buffer)
        np.rint(buffer, out=buffer)
        np.clip(buffer, -steps, steps, out=buffer)
        np.multiply(buffer, scale, out=buffer)
        np.subtract(buffer, x, out=buffer)
        np.square(buffer, out=buffer)
        return buffer.sum(axis=others, keepdims=True, dtype=np.float64)

    best = np.ones_like(largest, np.float64)
    least = error(best)
    centre, reach, points = 0.5 * np.log(LEAST_RATIO) * best, -0.5 * math.log(LEAST_RATIO), 41
    for _ in (0, 1, 2):
        for offset in np.linspace(-reach, reach, points):
            ratio = np.minimum(np.exp(centre + offset), 1.0)
            found = error(ratio)
            better = found < least
            best, least = np.where(better, ratio, best), np.where(better, found, least)
        centre, reach, points = np.log(best), 2 * reach / (points - 1), 7
    return np.squeeze((best * largest).astype(np.float32), others)
