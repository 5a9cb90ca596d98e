"""Fake-quantizers for training: values on the grid of a range, and gradients that pass straight through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.quantization.numerics import tensorflow_kernels
from tfcompress.quantization.numerics.custom_gradient import differentiable
from tfcompress.quantization.numerics.finite import check_bits, checked_limit, checked_range
from tfcompress.quantization.numerics.nudging import (
    INFINITY,
    LEAST_WIDTH,
    grid_from_zero,
    integers,
    is_host,
    nudged_grid,
    symmetric_grid,
)

Tensor = Any
Axis = int | tuple[int, ...] | None


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


def spread(value: Tensor, x: Tensor, axes: tuple[int, ...] | None, name: str) -> Tensor:
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
    return value.reshape(sizes) if isinstance(value, np.ndarray) else ops.reshape(value, sizes)


def float32_of(x: Any) -> tuple[Tensor, str]:
    """Return a tensor in float32, and the dtype that it had."""
    x = ops.convert_to_tensor(x)
    return ops.cast(x, "float32"), keras.backend.standardize_dtype(x.dtype)


def upstream_of(arguments: Sequence[Tensor], keywords: dict[str, Tensor]) -> Tensor:
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
    rounding: bool = False,
) -> Tensor:
    """Return `fake_quant` of float32 tensors.

    `fused`: with TensorFlow's kernel for the gradients. `known`: what `nudged_grid` makes of a range that is numbers.
    """
    levels = 2.0**bits - 1.0 - float(narrow)
    others = [axis for axis in range(len(x.shape)) if axes is None or axis not in axes]

    @differentiable
    def quantized(x: Tensor, minimum: Tensor, maximum: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        ends = (spread(minimum, x, axes, "minimum"), spread(maximum, x, axes, "maximum"))
        low, high, scale, inverse = known or nudged_grid(ops, *ends, bits, narrow)[:4]
        output = integers(ops, x, (low, high), inverse) * scale

        def gradient(*arguments: Tensor, **keywords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            upstream = upstream_of(arguments, keywords)
            if fused:
                ends = _open_if_empty(minimum, maximum, bits, narrow)
                return tensorflow_kernels.gradients(upstream, x, ends, bits, narrow)
            zero = ops.zeros((), upstream.dtype)
            # As in TensorFlow: all of the gradient passes where the range is empty, and none of a NaN's.
            start = ops.where(scale == 0, -np.inf, low)
            end = ops.where(scale == 0, np.inf, high)
            passed = ops.where(ops.logical_and(x >= start, x <= end), upstream, zero)
            below = ops.sum(ops.where(x < start, upstream, zero), axis=others)
            above = ops.sum(ops.where(x > end, upstream, zero), axis=others)
            if rounding:
                of_scale = ops.sum(passed * (output - x) * inverse, axis=others) / levels
                below, above = below - of_scale, above + of_scale
            return passed, below, above

        return output, gradient

    return quantized(x, minimum, maximum)


def _open_if_empty(minimum: Tensor, maximum: Tensor, bits: int, narrow: bool) -> tuple[Tensor, Tensor]:
    """Return the range, or one so wide that it holds everything if it is empty: XLA's kernel would give NaN then."""
    step, below = 2.0**80, 2.0 ** (bits - 2)
    empty = maximum - minimum < LEAST_WIDTH
    above = 2.0**bits - 1.0 - float(narrow) - below
    return ops.where(empty, -below * step, minimum), ops.where(empty, above * step, maximum)


def fake_quant(
    x: Tensor,
    minimum: Tensor,
    maximum: Tensor,
    *,
    bits: int = 8,
    narrow: bool = False,
    axis: Axis = None,
    rounding: bool = False,
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
        rounding: Whether the ends also get the gradient of the rounding within the range, which a wider range makes
            coarser: that of a learned scale (LSQ, Esser et al. 2020, arXiv:1902.08153, equation 3), where the ends are
            multiples of it.

    Returns:
        A tensor like `x`. A range (0, 0) gives zeros.

    Raises:
        ValueError: If `bits`, `axis` or the ranges' shape is wrong.

    Example:

    >>> [round(float(value), 3) for value in fake_quant(np.float32([-0.2, 0.1, 0.34, 2.0]), 0.0, 1.0, bits=2)]
    [0.0, 0.0, 0.333, 1.0]
    """
    bits = check_bits(bits)
    x, dtype = float32_of(x)
    axes = None if axis is None else check_axes(axis, len(x.shape))
    given = minimum, maximum
    minimum, maximum = float32_of(minimum)[0], float32_of(maximum)[0]
    for name, end in (("minimum", minimum), ("maximum", maximum)):
        spread(end, x, axes, name)
    known = None
    if is_host(*given):
        ends = checked_range(*given)
        known = nudged_grid(np, *ends, bits, narrow)[:4] if axes is None else None
    fused = axes is None and keras.backend.backend() == "tensorflow" and not rounding
    how: dict[str, Any] = {"bits": bits, "narrow": narrow, "axes": axes, "fused": fused, "known": known}
    how["rounding"] = rounding
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
    x, dtype = float32_of(x)
    known = nudged_grid(np, *checked_range(minimum, maximum), bits, narrow) if is_host(minimum, maximum) else None
    low, high = (ops.stop_gradient(float32_of(end)[0]) for end in (minimum, maximum))
    for name, end in (("minimum", low), ("maximum", high)):
        spread(end, x, None, name)
    from_zero = nonnegative and not narrow and is_host(minimum) and not np.any(minimum)
    in_one_pass = tensorflow_kernels.available()
    past_relu = past_relu and in_one_pass
    source, least, most = tensorflow_kernels.before_relu(x) if past_relu else (x, -INFINITY, INFINITY)

    @differentiable
    def quantized(given: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        values = x if past_relu else given  # JAX traces what is given alone
        if from_zero and known is None:
            start, (end, scale, inverse) = 0.0, grid_from_zero(ops, high, bits)
        else:
            start, end, scale, inverse, _ = known or nudged_grid(ops, low, high, bits, narrow)
        # Saturated before or behind, the values are the same.
        output = tensorflow_kernels.rounded(values, scale, bits) if in_one_pass else values
        output = output if in_one_pass and from_zero else ops.minimum(output, end)  # the kernel's end is that one
        output = output if nonnegative else ops.maximum(output, start)
        output = output if in_one_pass else ops.round(output * inverse) * scale

        def gradient(*arguments: Tensor, **keywords: Tensor) -> Tensor:
            upstream = upstream_of(arguments, keywords)
            # The range holds 0: what a ReLU lets through isn't below its start.
            first = least if nonnegative or least > 0 else ops.where(scale == 0, -INFINITY, start)
            last = ops.where(scale == 0, most, end if most == INFINITY else ops.minimum(end, most))
            if in_one_pass:
                return tensorflow_kernels.within(upstream, values, first, last)
            inside = values <= last if nonnegative else ops.logical_and(values >= first, values <= last)
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
        Of the shape of `x` along `axis`; a scalar for `None`. An array where `x` is one.

    Raises:
        ValueError: If `axis` is not one of x's.

    Example:

    >>> [float(limit) for limit in symmetric_limit(np.float32([[1, -3], [2, 0]]), axis=-1)]
    [2.0, 3.0]
    """
    host = isinstance(x, np.ndarray)
    x = x.astype(np.float32, copy=False) if host else float32_of(x)[0]
    axes = () if axis is None else check_axes(axis, len(x.shape))
    others = tuple(a for a in range(len(x.shape)) if a not in axes)
    # Without an array of all |x|, which may be large.
    return np.abs(np.maximum(x.max(others), -x.min(others))) if host else ops.max(ops.abs(x), axis=others)


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
        A tensor like `x`; zero stays zero. An array where `x` and `limit` are arrays.

    Raises:
        ValueError: If `bits`, `axis` or the limit's shape is wrong.

    Example:

    >>> [round(float(value), 3) for value in fake_quant_symmetric(np.float32([-1, 0.2, 0]), 1.0, bits=3)]
    [-1.0, 0.333, 0.0]
    """
    bits = check_bits(bits)
    if isinstance(x, np.ndarray) and isinstance(limit, np.ndarray):
        axes = None if axis is None else check_axes(axis, x.ndim)
        ends = np.asarray(spread(limit.astype(np.float32, copy=False), x, axes, "limit"))
        with np.errstate(invalid="ignore"):  # NaN stays NaN
            low, high, scale, inverse = symmetric_grid(np, ends, bits)
            made = integers(np, x.astype(np.float32, copy=False), (low, high), inverse)
            made *= scale
        return made.astype(x.dtype, copy=False)
    x, dtype = float32_of(x)
    axes = None if axis is None else check_axes(axis, len(x.shape))
    others = [a for a in range(len(x.shape)) if axes is None or a not in axes]
    limit, _ = float32_of(checked_limit(limit) if is_host(limit) else limit)
    spread(limit, x, axes, "limit")

    @differentiable
    def quantized(x: Tensor, limit: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        low, high, scale, inverse = symmetric_grid(ops, spread(limit, x, axes, "limit"), bits)
        output = integers(ops, x, (low, high), inverse) * scale

        def gradient(*arguments: Tensor, **keywords: Tensor) -> tuple[Tensor, Tensor]:
            upstream = upstream_of(arguments, keywords)
            end = ops.where(scale == 0, np.inf, high)
            size = ops.abs(x)
            outside = ops.where(size > end, upstream * ops.sign(x), ops.zeros((), upstream.dtype))
            # A product, which takes a third of the time of a choice.
            return upstream * ops.cast(size <= end, upstream.dtype), ops.sum(outside, axis=others)

        return output, gradient

    return ops.cast(quantized(x, limit), dtype)
