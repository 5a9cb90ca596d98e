"""Fake-quantizers of weights whose scale is trained, and gradients that are scaled on their way to a range."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from tfcompress.quantization.numerics.custom_gradient import differentiable
from tfcompress.quantization.numerics.fake_quant import Axis, Tensor, check_axes, float32_of, spread, upstream_of
from tfcompress.quantization.numerics.finite import check_bits
from tfcompress.quantization.numerics.nudging import grid_of_scale, integers


def fake_quant_scaled(x: Tensor, scale: Tensor, *, bits: int = 8, narrow: bool = False, axis: Axis = None) -> Tensor:
    """Return `x` rounded to whole multiples of a scale, saturated at the ends of a symmetric grid; differentiable.

    The gradients are those of LSQ, "Learned step size quantization" (Esser et al. 2020, arXiv:1902.08153, equations 3
    and 5): to x it passes within the grid; to the scale go round(x / scale) - x / scale within it, and its lowest or
    highest integer beyond.

    Args:
        x: Float tensor; computed in float32 and returned in its own dtype.
        scale: A scalar, or one for each channel: of the shape of `x` along `axis`. What is not above 0 counts as a
            scale next to 0, to which the gradient goes all the same.
        bits: 2 to 16: integers from -2^(bits-1) to 2^(bits-1) - 1.
        narrow: Whether the lowest integer stays unused.
        axis: The channel axes, in order; `None`: one scale for all of `x`.

    Returns:
        A tensor like `x`. An array where `x` and `scale` are arrays.

    Raises:
        ValueError: If `bits`, `axis` or the scale's shape is wrong.

    Example:

    >>> [float(value) for value in fake_quant_scaled(np.float32([-9, -0.7, 0.2, 9]), np.float32(0.5), bits=2)]
    [-1.0, -0.5, 0.0, 0.5]
    """
    bits = check_bits(bits)
    if isinstance(x, np.ndarray) and isinstance(scale, np.ndarray | np.generic):
        axes = None if axis is None else check_axes(axis, x.ndim)
        own = spread(np.asarray(scale, np.float32), x, axes, "scale")
        low, high, own, inverse = grid_of_scale(np, own, bits, narrow)
        return (integers(np, x.astype(np.float32, copy=False), (low, high), inverse) * own).astype(x.dtype, copy=False)
    x, dtype = float32_of(x)
    axes = None if axis is None else check_axes(axis, len(x.shape))
    others = [a for a in range(len(x.shape)) if axes is None or a not in axes]
    scale = float32_of(scale)[0]
    spread(scale, x, axes, "scale")
    highest = 2.0 ** (bits - 1) - 1.0
    lowest = -highest if narrow else -highest - 1.0

    @differentiable
    def quantized(x: Tensor, scale: Tensor) -> tuple[Tensor, Any]:
        low, high, own, inverse = grid_of_scale(ops, spread(scale, x, axes, "scale"), bits, narrow)
        output = integers(ops, x, (low, high), inverse) * own

        def gradient(*arguments: Tensor, **keywords: Tensor) -> tuple[Tensor, Tensor]:
            upstream = upstream_of(arguments, keywords)
            slope = ops.where(x < low, lowest, ops.where(x > high, highest, (output - x) * inverse))
            passed = upstream * ops.cast(ops.logical_and(x >= low, x <= high), upstream.dtype)
            return passed, ops.sum(upstream * slope, axis=others)

        return output, gradient

    return ops.cast(quantized(x, scale), dtype)


def of_share(factor: Tensor, start: Tensor) -> Tensor:
    """Return by what to multiply the gradient of a share of `start`, so that gradient descent moves start * share.

    It does so as if that product were trained itself, with its gradient times `factor`. Optimizers whose steps don't
    grow with the gradient, as Adam's, move it by parts of what it was, whatever its size.
    """
    return factor / ops.maximum(ops.square(start), 1e-30)


def with_gradient_times(x: Tensor, factor: Tensor, least: Any = -np.inf) -> Tensor:
    """Return float32 values, or the least where they are below that; to all goes the gradient times a factor.

    >>> float(with_gradient_times(ops.convert_to_tensor(np.float32(2.5)), 0.1))
    2.5
    """

    @differentiable
    def same(x: Tensor, factor: Tensor, least: Tensor) -> tuple[Tensor, Any]:
        def gradient(*arguments: Tensor, **keywords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return upstream_of(arguments, keywords) * factor, ops.zeros_like(factor), ops.zeros_like(least)

        return ops.maximum(x, least), gradient

    return same(x, *(ops.cast(ops.convert_to_tensor(part), "float32") for part in (factor, least)))
