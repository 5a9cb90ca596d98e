"""The limits of weights' grids: the largest |w|, or what makes the least squared error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfcompress.core.arguments import check_choice
from tfcompress.quantization.numerics.fake_quant import Axis, check_axes
from tfcompress.quantization.numerics.few_values import few_values
from tfcompress.quantization.numerics.finite import check_bits, checked
from tfcompress.quantization.quantize_config import FEW_VALUES, WEIGHT_RANGES

LEAST_RATIO = 1 / 128
"""Searches try ranges from that part of the extremes to all of it."""


def weight_limit(x: Any, axis: Axis = None, bits: int = 8, range: str = "minmax") -> np.ndarray:
    """Return the limit of each channel's symmetric grid.

    Args:
        x: Weights, float.
        axis: The channel axes, in order; `None`: one limit for all.
        bits: 2 to 16.
        range: "minmax": the largest |x|; "mse": the limit, at most that, of least squared error; "learned": where LSQ
            begins (Esser et al. 2020, arXiv:1902.08153, section 2.1), a scale of 2 * mean |x| / sqrt(largest integer),
            or less where the grid would go beyond the largest |x|. Zeros don't count: masks make them. "binary" and
            "ternary": the size of the values.

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
    if range in FEW_VALUES:
        return np.squeeze(few_values(np, x, others, range == "binary")[1], others)
    steps = np.float32(2 ** (bits - 1) - 1)
    if range == "learned":
        count = np.maximum(np.count_nonzero(x, others, keepdims=True), 1)
        mean = np.sum(np.abs(x), others, np.float64, keepdims=True) / count
        return np.squeeze(np.minimum(largest, 2 * mean * np.sqrt(steps)).astype(np.float32), others)
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
