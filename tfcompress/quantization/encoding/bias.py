"""A bias as integers that are summed with the products of a kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.quantization.encoding.affine import Affine
from tfcompress.quantization.numerics.wide import WIDE

LARGEST_BIAS = 2.0**30
"""Half of what an int32 accumulator holds, in units of input scale * weight scale; the other half is for products."""


def encode_bias(bias: np.ndarray, input_scale: Any, weights: Affine, axis: int) -> tuple[Affine, Affine]:
    """Return a kernel's weights and its bias as integers that one 32-bit accumulator sums.

    The bias has the scale input scale * weight scale, as TFLite's quantization specification has it. Where it doesn't
    fit into half of the accumulator so, the channel's weights get a coarser grid: they are tiny beside the bias, or
    zero, and what is lost is less than 2**-22 of the bias for each product.

    Args:
        bias: float32, a value for each channel.
        input_scale: Of the kernel's input.
        weights: Of the kernel; one scale for all, or one for each channel.
        axis: The kernel's axis of output channels.

    Returns:
        The weights, and the bias: int64, a scale for each of its values or one for all.

    Example:

    >>> kernel = Affine(np.array([[100], [1]], "int8"), np.array([[0.5], [0.5]], "float32"))
    >>> weights, bias = encode_bias(np.array([3.0, 1.0], "float32"), 0.25, kernel, axis=0)
    >>> bias.integers.tolist(), bias.scale.tolist()
    ([24, 8], [0.125, 0.125])
    """
    of_input = np.float32(input_scale)
    shape = [1] * weights.integers.ndim
    if weights.axis:
        shape[axis] = -1
    others = tuple(place for place in range(weights.integers.ndim) if not weights.axis or place != axis)
    empty = ~weights.integers.any(axis=others)
    own = bias_scale(np, bias.reshape(-1), of_input, weights.scale.reshape(-1 if weights.axis else ()), empty)
    widened = np.asarray(own, np.float32).reshape(shape)
    if (widened != weights.scale).any():
        coarse = np.round(weights.integers * (weights.scale.astype(np.float64) / widened))
        weights = Affine(coarse.astype(weights.integers.dtype), widened, bits=weights.bits)
    scale = (of_input * weights.scale.reshape(-1)).astype(np.float32)
    units = np.round(bias.reshape(-1).astype(np.float64) / scale)
    return weights, Affine(units.astype(np.int64), scale, bits=32)


def bias_scale(xp: Any, bias: Any, input_scale: Any, scale: Any, empty: Any) -> Any:
    """Return the scale of a kernel's weights, float32, coarser where a bias wouldn't fit; with numpy or keras.ops.

    Args:
        xp: numpy or keras.ops.
        bias: float32, a value for each channel.
        input_scale: float32.
        scale: Of the weights, float32; one for all, or one for each channel.
        empty: Where no weight is other than 0: any scale will do there, one that holds the bias to 20 bits.
    """
    double = "float64" if xp is np else WIDE
    largest = xp.abs(_cast(xp, bias, double))
    if not len(scale.shape):
        largest = xp.max(largest)
    needed = largest / (_cast(xp, input_scale, double) * LARGEST_BIAS)
    wide = xp.maximum(_cast(xp, scale, double), needed)
    return _cast(xp, xp.where(xp.logical_and(empty, needed > 0), needed * 2**10, wide), "float32")


def _cast(xp: Any, x: Any, dtype: str) -> Any:
    return np.asarray(x, dtype) if xp is np else xp.cast(x, dtype)
