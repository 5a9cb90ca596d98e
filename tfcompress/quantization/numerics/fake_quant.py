"""The arithmetic of quantization: grids, fake-quantizers for training, plain quantizers for arrays.

Grids are those of TensorFlow's fake-quantization kernels, number by number in float32: these carry a range into a file.
Numbers are rounded as runtimes do it: x times 1 / scale (LiteRT; ONNX Runtime divides, which is the same but next to
a half), halves to even, then the zero point is added. So simulation, arrays and files have the same integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.quantization.numerics import tensorflow_kernels
from tfcompress.quantization.numerics.custom_gradient import differentiable
from tfcompress.quantization.numerics.finite import check_bits, checked_limit, checked_range

Tensor = Any
Axis = int | tuple[int, ...] | None

LEAST_WIDTH = 2.0**-100
"""Ranges narrower than that count as (0, 0): float32 could not hold the inverse of their scale."""

ONE, INFINITY = np.float32(1), np.float32(np.inf)


def check_axes(axis: Any, rank: int) -> tuple[int, ...]:
    """Return the channel axes, counted from the front."""
    axes = (axis,) if isinstance(axis, (int, np.integer)) and not isinstance(axis, bool) else axis
    whole = isinstance(axes, (tuple, list)) and all(isinstance(a, (int, np.integer)) for a in axes)
    if not whole or not all(-rank <= a < rank for a in axes):
        raise ValueError(f"Expected axis to be None or axes of x, from {-rank} to {rank - 1}. Received: axis={axis!r}.")
    positive = tuple(int(a) % rank for a in axes)
    if not positive or list(positive) != sorted(set(positive)):
        raise ValueError(f"Expected axis to name at least one axis, each once and in order. Received: axis={axis!r}.")
    return positive


def nudged_grid(xp: Any, minimum: Any, maximum: Any, bits: int, narrow: bool) -> tuple[Any, Any, Any, Any, Any]:
    """Return the nudged minimum and maximum, the scale, its inverse and the zero point, with numpy or keras.ops.

    A range of no width has scale and inverse 0.
    """
    lowest, highest = float(narrow), float(2**bits - 1)
    width = maximum - minimum
    empty = width < LEAST_WIDTH
    scale = width / _steps(xp, empty, highest - lowest)
    zero_point = xp.clip(lowest - minimum / xp.where(empty, ONE, scale), lowest, highest)
    zero_point = xp.floor(zero_point + zero_point) - xp.floor(zero_point)  # rounded, halves up, without a sum's error
    inverse = _inverse(xp, empty, scale)
    return (lowest - zero_point) * scale, (highest - zero_point) * scale, scale, inverse, zero_point


def grid_from_zero(xp: Any, maximum: Any, bits: int) -> tuple[Any, Any, Any]:
    """Return the nudged maximum, the scale and its inverse of `nudged_grid` for a range that starts at 0."""
    highest = float(2**bits - 1)
    empty = maximum < LEAST_WIDTH
    scale = maximum / _steps(xp, empty, highest)
    return highest * scale, scale, _inverse(xp, empty, scale)


def symmetric_grid(xp: Any, limit: Any, bits: int, narrow: bool = True) -> tuple[Any, Any, Any, Any]:
    """Return the least and the largest number of the grid on [-limit, limit], which holds zero, scale and inverse."""
    highest = 2 ** (bits - 1) - 1
    lowest = -highest if narrow else -highest - 1
    empty = limit < LEAST_WIDTH / 2
    scale = limit / _steps(xp, empty, highest)
    return float(lowest) * scale, float(highest) * scale, scale, _inverse(xp, empty, scale)


def _steps(xp: Any, empty: Any, count: float) -> Any:
    """Return what the width of a range is divided by for its scale; infinity if it is empty.

    It is no constant: XLA and TensorFlow would multiply by the reciprocal of one, whose last bit is another.
    """
    return xp.where(empty, INFINITY, np.float32(count))


def _inverse(xp: Any, empty: Any, scale: Any) -> Any:
    return ONE / xp.where(empty, INFINITY, scale)


def integers(xp: Any, x: Any, ends: tuple[Any, Any], inverse: Any) -> Any:
    """Return the whole numbers, zero at 0, that stand for `x`, saturated at the grid's ends; halves go to even."""
    low, high = ends
    return xp.round(xp.maximum(xp.minimum(x, high), low) * inverse)


def _is_host(*values: Any) -> bool:
    return all(isinstance(value, (int, float, list, np.ndarray, np.generic)) for value in values)


def nudge(minimum: Any, maximum: Any, bits: int = 8, narrow: bool = False) -> tuple[Any, Any, Any, Any]:
    """Return the range that `fake_quant` really uses: moved so that zero lies on its grid.

    scale = (maximum - minimum) / steps, zero_point = round(lowest - minimum / scale), halves away from zero, all in
    float32, as TensorFlow's fake-quantization kernels compute it (Jacob et al. 2018, arXiv:1712.05877, section 3).

    Args:
        minimum: Lower end, float, any shape: numbers and arrays are computed with numpy, tensors with `keras.ops`.
        maximum: Upper end, of the same shape, at least `minimum`.
        bits: 2 to 16.
        narrow: Whether the lowest integer stays unused: 1 to 2^bits - 1 instead of 0 to 2^bits - 1.

    Returns:
        The nudged minimum, the nudged maximum, the scale and the zero point (a whole number among the integers, which
        count from 0), float32. A range (0, 0) has scale 0.

    Raises:
        ValueError: If `bits` is out of range, or the ends, where they are no tensors, are not finite or in order.

    Example:

    >>> low, high, scale, zero_point = nudge(-1.0, 1.0)
    >>> print(f"{low:.4f} {high:.4f} {scale:.6f} {zero_point:.0f}")
    -0.9961 1.0039 0.007843 127
    """
    bits = check_bits(bits)
    if _is_host(minimum, maximum):
        low, high, scale, _, zero_point = nudged_grid(np, *checked_range(minimum, maximum), bits, narrow)
        return low, high, scale, zero_point
    low, high = (ops.cast(ops.convert_to_tensor(end), "float32") for end in (minimum, maximum))
    low, high, scale, _, zero_point = nudged_grid(ops, low, high, bits, narrow)
    return low, high, scale, zero_point


def _spread(value: Tensor, x: Tensor, axes: tuple[int, ...] | None, name: str) -> Tensor:
    """Return `value`, of the channels' shape, with the rank of `x`."""
    shape = [] if axes is None else [x.shape[axis] for axis in axes]
    if len(value.shape) != len(shape) or any(
        own is not None and wanted is not None and own != wanted for own, wanted in zip(value.shape, shape, strict=True)
    ):
        raise ValueError(
            f"Expected {name} to have the shape of x along axis, {tuple(shape)}. Received: shape {tuple(value.shape)}."
        )
    if axes is None:
        return value
    sizes = [1] * len(x.shape)
    for axis, size in zip(axes, value.shape, strict=True):
        sizes[axis] = -1 if size is None else size
    return ops.reshape(value, sizes)


def _float32(x: Any) -> tuple[Tensor, str]:
    x = ops.convert_to_tensor(x)
    return ops.cast(x, "float32"), keras.backend.standardize_dtype(x.dtype)


def _upstream(arguments: Sequence[Tensor], keywords: dict[str, Tensor]) -> Tensor:
    """Return the gradient that arrives; keras.ops' backends hand it over in two ways."""
    return keywords.get("upstream", arguments[0] if arguments else None)


def _fake_quant_with_ops(
    x: Tensor,
    minimum: Tensor,
    maximum: Tensor,
    *,
    bits: int,
    narrow: bool,
    axes: tuple[int, ...] | None,
    fused: bool = False,
    known: tuple[Any, Any, Any, Any] | None = None,
) -> Tensor:
    """Return `fake_quant` of float32 tensors.

    `fused`: with TensorFlow's kernel for the gradients. `known`: what `nudged_grid` makes of a range that is numbers.
    """
    others = [axis for axis in range(len(x.shape)) if axes is None or axis not in axes]

    @differentiable
    def quantized(x: Tensor, minimum: Tensor, maximum: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        ends = (_spread(minimum, x, axes, "minimum"), _spread(maximum, x, axes, "maximum"))
        low, high, scale, inverse = known or nudged_grid(ops, *ends, bits, narrow)[:4]
        output = integers(ops, x, (low, high), inverse) * scale

        def gradient(*arguments: Tensor, **keywords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            upstream = _upstream(arguments, keywords)
            if fused:
                ends = _open_if_empty(minimum, maximum, bits, narrow)
                return tensorflow_kernels.gradients(upstream, x, ends, bits, narrow)
            zero = ops.zeros((), upstream.dtype)
            # As in TensorFlow: all of the gradient passes where the range is empty, and none of a NaN's.
            start = ops.where(scale == 0, -np.inf, low)
            end = ops.where(scale == 0, np.inf, high)
            return (
                ops.where(ops.logical_and(x >= start, x <= end), upstream, zero),
                ops.sum(ops.where(x < start, upstream, zero), axis=others),
                ops.sum(ops.where(x > end, upstream, zero), axis=others),
            )

        return output, gradient

    return quantized(x, minimum, maximum)


def _open_if_empty(minimum: Tensor, maximum: Tensor, bits: int, narrow: bool) -> tuple[Tensor, Tensor]:
    """Return the range, or one so wide that it holds everything if it is empty: XLA's kernel would give NaN then."""
    step, below = 2.0**80, 2.0 ** (bits - 2)
    empty = maximum - minimum < LEAST_WIDTH
    above = 2.0**bits - 1.0 - float(narrow) - below
    return ops.where(empty, -below * step, minimum), ops.where(empty, above * step, maximum)


def fake_quant(
    x: Tensor, minimum: Tensor, maximum: Tensor, *, bits: int = 8, narrow: bool = False, axis: Axis = None
) -> Tensor:
    """Return `x` rounded to the grid that `bits` give the range, saturated at its ends; differentiable.

    The grid and the gradients are those of `tf.quantization.fake_quant_with_min_max_vars` and `..._per_channel`, on
    every backend; halves are rounded to even, as runtimes do, and not up. The gradient passes through the rounding
    inside the nudged range (straight-through estimator, Bengio et al. 2013, arXiv:1308.3432), what lies below or above
    it goes to `minimum` or `maximum`.

    Args:
        x: Float tensor; computed in float32 and returned in its own dtype.
        minimum: Lower end; a scalar, or one for each channel: of the shape of `x` along `axis`.
        maximum: Upper end, alike. The range is nudged so that zero lies on the grid; it should hold zero.
        bits: 2 to 16.
        narrow: Whether the lowest integer stays unused.
        axis: `None`: one range for all of `x`; an axis or several, in order: one for each channel.

    Returns:
        A tensor like `x`. A range (0, 0) gives zeros.

    Raises:
        ValueError: If `bits`, `axis` or the ranges' shape is wrong.

    Example:

    >>> [round(float(value), 3) for value in fake_quant(np.float32([-0.2, 0.1, 0.34, 2.0]), 0.0, 1.0, bits=2)]
    [0.0, 0.0, 0.333, 1.0]
    """
    bits = check_bits(bits)
    x, dtype = _float32(x)
    axes = None if axis is None else check_axes(axis, len(x.shape))
    given = minimum, maximum
    minimum, maximum = _float32(minimum)[0], _float32(maximum)[0]
    for name, end in (("minimum", minimum), ("maximum", maximum)):
        _spread(end, x, axes, name)
    known = None
    if _is_host(*given):
        ends = checked_range(*given)
        known = nudged_grid(np, *ends, bits, narrow)[:4] if axes is None else None
    fused = axes is None and keras.backend.backend() == "tensorflow"
    how: dict[str, Any] = {"bits": bits, "narrow": narrow, "axes": axes, "fused": fused, "known": known}
    return ops.cast(_fake_quant_with_ops(x, minimum, maximum, **how), dtype)


def fake_quant_given(
    x: Tensor,
    minimum: Tensor,
    maximum: Tensor,
    *,
    bits: int = 8,
    narrow: bool = False,
    nonnegative: bool = False,
    past_relu: bool = False,
) -> Tensor:
    """Return `fake_quant` with a range for all of `x` that isn't learned: the gradient goes to `x` alone.

    The activations of every training step go through here.

    Args:
        x: Float tensor; computed in float32 and returned in its own dtype.
        minimum: Lower end, at most 0, a scalar.
        maximum: Upper end, at least 0, a scalar.
        bits: 2 to 16.
        narrow: Whether the lowest integer stays unused.
        nonnegative: Whether `x` is nowhere below 0, as behind a ReLU: it isn't compared with the lower end then. Where
            `minimum` is the number 0, too, the least is to be done.
        past_relu: Whether the gradient may go to what a ReLU made `x` of, with one mask for both, and not to `x`.

    Returns:
        A tensor like `x`.

    Raises:
        ValueError: If `bits` or the ranges' shape is wrong.

    Example:

    >>> [round(float(value), 3) for value in fake_quant_given(np.float32([-0.2, 0.1, 0.34, 2.0]), 0.0, 1.0, bits=2)]
    [0.0, 0.0, 0.333, 1.0]
    """
    bits = check_bits(bits)
    x, dtype = _float32(x)
    known = nudged_grid(np, *checked_range(minimum, maximum), bits, narrow) if _is_host(minimum, maximum) else None
    low, high = (ops.stop_gradient(_float32(end)[0]) for end in (minimum, maximum))
    for name, end in (("minimum", low), ("maximum", high)):
        _spread(end, x, None, name)
    from_zero = nonnegative and not narrow and _is_host(minimum) and not np.any(minimum)
    in_one_pass = tensorflow_kernels.available()
    past_relu = past_relu and in_one_pass
    source, least, most = tensorflow_kernels.before_relu(x) if past_relu else (x, -INFINITY, INFINITY)

    @differentiable
    def quantized(_: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        if from_zero and known is None:
            start, (end, scale, inverse) = 0.0, grid_from_zero(ops, high, bits)
        else:
            start, end, scale, inverse, _ = known or nudged_grid(ops, low, high, bits, narrow)
        # Saturated before or behind, the values are the same.
        output = tensorflow_kernels.rounded(x, scale, bits) if in_one_pass else x
        output = output if in_one_pass and from_zero else ops.minimum(output, end)  # the kernel's end is that one
        output = output if nonnegative else ops.maximum(output, start)
        output = output if in_one_pass else ops.round(output * inverse) * scale

        def gradient(*arguments: Tensor, **keywords: Tensor) -> Tensor:
            upstream = _upstream(arguments, keywords)
            # The range holds 0: what a ReLU lets through isn't below its start.
            first = least if nonnegative or least > 0 else ops.where(scale == 0, -INFINITY, start)
            last = ops.where(scale == 0, most, end if most == INFINITY else ops.minimum(end, most))
            if in_one_pass:
                return tensorflow_kernels.within(upstream, x, first, last)
            inside = x <= last if nonnegative else ops.logical_and(x >= first, x <= last)
            # A product, which takes a third of the time of a choice.
            return upstream * ops.cast(inside, upstream.dtype)

        return output, gradient

    return ops.cast(quantized(source), dtype)


def symmetric_limit(x: Tensor, axis: Axis = None) -> Tensor:
    """Return the largest |x| of each channel, float32.

    Args:
        x: Float tensor.
        axis: The channel axes, in order; `None`: one limit for all of `x`.

    Returns:
        Of the shape of `x` along `axis`; a scalar for `None`.

    Raises:
        ValueError: If `axis` is not one of x's.

    Example:

    >>> [float(limit) for limit in symmetric_limit(np.float32([[1, -3], [2, 0]]), axis=-1)]
    [2.0, 3.0]
    """
    x, _ = _float32(x)
    axes = () if axis is None else check_axes(axis, len(x.shape))
    return ops.max(ops.abs(x), axis=[a for a in range(len(x.shape)) if a not in axes])


def fake_quant_symmetric(x: Tensor, limit: Tensor, *, bits: int = 8, axis: Axis = None) -> Tensor:
    """Return `x` on the grid of -(2^(bits-1) - 1) to 2^(bits-1) - 1 steps that spans [-limit, limit].

    The values and gradients of `fake_quant(x, -limit, limit, narrow=True)` without its nudging: the weights of every
    training step go through here.

    Args:
        x: Float tensor; computed in float32 and returned in its own dtype.
        limit: At least 0, of the shape of `x` along `axis`. Where it is 0 the channel becomes zero.
        bits: 2 to 16.
        axis: The channel axes, in order; `None`: one limit for all of `x`.

    Returns:
        A tensor like `x`; zero stays zero.

    Raises:
        ValueError: If `bits`, `axis` or the limit's shape is wrong.

    Example:

    >>> [round(float(value), 3) for value in fake_quant_symmetric(np.float32([-1, 0.2, 0]), 1.0, bits=3)]
    [-1.0, 0.333, 0.0]
    """
    bits = check_bits(bits)
    x, dtype = _float32(x)
    axes = None if axis is None else check_axes(axis, len(x.shape))
    others = [a for a in range(len(x.shape)) if axes is None or a not in axes]
    limit, _ = _float32(checked_limit(limit) if _is_host(limit) else limit)
    _spread(limit, x, axes, "limit")

    @differentiable
    def quantized(x: Tensor, limit: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        low, high, scale, inverse = symmetric_grid(ops, _spread(limit, x, axes, "limit"), bits)
        output = integers(ops, x, (low, high), inverse) * scale

        def gradient(*arguments: Tensor, **keywords: Tensor) -> tuple[Tensor, Tensor]:
            upstream = _upstream(arguments, keywords)
            end = ops.where(scale == 0, np.inf, high)
            size = ops.abs(x)
            outside = ops.where(size > end, upstream * ops.sign(x), ops.zeros((), upstream.dtype))
            # A product, which takes a third of the time of a choice.
            return upstream * ops.cast(size <= end, upstream.dtype), ops.sum(outside, axis=others)

        return output, gradient

    return ops.cast(quantized(x, limit), dtype)
