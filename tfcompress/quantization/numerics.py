"""The arithmetic of quantization: grids, fake-quantizers for training, plain quantizers for arrays.

Every number here is TensorFlow's: float32, the order of operations of its fake-quantization kernels. So what
training simulates, what `uniform_quantize` returns and what the exported file computes lie on one grid.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.quantization.config import LEAST_BITS, MOST_BITS

Tensor = Any
Axis = int | tuple[int, ...] | None

MODES = ("round", "floor")
LEAST_WIDTH = 2.0**-100
"""Ranges narrower than that count as (0, 0): float32 could not hold the inverse of their scale."""


def _check_bits(bits: Any) -> None:
    if isinstance(bits, bool) or not isinstance(bits, (int, np.integer)) or not LEAST_BITS <= bits <= MOST_BITS:
        raise ValueError(
            f"Expected bits to be a whole number from {LEAST_BITS} to {MOST_BITS}. Received: bits={bits!r}."
        )


def _check_axes(axis: Any, rank: int) -> tuple[int, ...]:
    """Return the channel axes, counted from the front."""
    axes = (axis,) if isinstance(axis, (int, np.integer)) and not isinstance(axis, bool) else axis
    whole = isinstance(axes, (tuple, list)) and all(isinstance(a, (int, np.integer)) for a in axes)
    if not whole or not all(-rank <= a < rank for a in axes):
        raise ValueError(f"Expected axis to be None or axes of x, from {-rank} to {rank - 1}. Received: axis={axis!r}.")
    positive = tuple(int(a) % rank for a in axes)
    if not positive or list(positive) != sorted(set(positive)):
        raise ValueError(f"Expected axis to name at least one axis, each once and in order. Received: axis={axis!r}.")
    return positive


def _nudged(xp: Any, minimum: Any, maximum: Any, bits: int, narrow: bool) -> tuple[Any, Any, Any, Any, Any]:
    """Return the nudged minimum and maximum, the scale, its inverse and the zero point, with numpy or keras.ops.

    A range of no width has scale and inverse 0.
    """
    lowest, highest = float(narrow), float(2**bits - 1)
    # The number of steps must not look constant: XLA would multiply by its reciprocal, and the scale's last bit
    # would be another than without XLA.
    steps = (highest - lowest) + 0.0 * minimum
    width = maximum - minimum
    empty = width < LEAST_WIDTH
    scale = xp.where(empty, 0.0, width / steps)
    zero_point = xp.clip(lowest - minimum / xp.where(empty, 1.0, scale), lowest, highest)
    whole = xp.floor(zero_point)
    zero_point = xp.where(zero_point - whole >= 0.5, whole + 1.0, whole)
    inverse = xp.where(empty, 0.0, steps / xp.where(empty, 1.0, width))
    return (lowest - zero_point) * scale, (highest - zero_point) * scale, scale, inverse, zero_point


def _symmetric(xp: Any, limit: Any, bits: int, narrow: bool = True) -> tuple[Any, Any, Any, Any, Any]:
    """Return what `_nudged` does for the range [-limit, limit], where zero needs no nudging: it is integer `offset`."""
    highest = 2 ** (bits - 1) - 1
    lowest = -highest if narrow else -highest - 1
    steps = float(highest) + 0.0 * limit
    empty = limit + limit < LEAST_WIDTH
    scale = xp.where(empty, 0.0, limit / steps)
    inverse = xp.where(empty, 0.0, steps / xp.where(empty, 1.0, limit))
    offset = xp.where(empty, 0.0, -float(lowest))
    return float(lowest) * scale, float(highest) * scale, scale, inverse, offset


def _integers(xp: Any, x: Any, ends: tuple[Any, Any], offset: Any, *, scale: Any = None, inverse: Any = None) -> Any:
    """Return the whole numbers, zero at 0, that stand for `x`: divided by `scale` or multiplied by `inverse`."""
    low, high = ends
    shifted = xp.maximum(xp.minimum(x, high), low) - low
    if inverse is None:
        # Nor must the divisor look like one number, which XLA would invert.
        steps = shifted / (xp.where(scale == 0, 1.0, scale) + 0.0 * shifted)
    else:
        # It's not below 0 anyway: this keeps XLA from fusing the product with the sum, which would skip a rounding.
        steps = xp.maximum(shifted * inverse, 0.0)
    return xp.floor(steps - offset + 0.5)


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
        ValueError: If `bits` is out of range.

    Example:

    >>> low, high, scale, zero_point = nudge(-1.0, 1.0)
    >>> print(f"{low:.4f} {high:.4f} {scale:.6f} {zero_point:.0f}")
    -0.9961 1.0039 0.007843 127
    """
    _check_bits(bits)
    if _is_host(minimum, maximum):
        low, high, scale, _, zero_point = _nudged(np, np.float32(minimum), np.float32(maximum), bits, narrow)
        return low, high, scale, zero_point
    low, high = (ops.cast(ops.convert_to_tensor(end), "float32") for end in (minimum, maximum))
    low, high, scale, _, zero_point = _nudged(ops, low, high, bits, narrow)
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
    x: Tensor, minimum: Tensor, maximum: Tensor, *, bits: int, narrow: bool, axes: tuple[int, ...] | None
) -> Tensor:
    """Return `fake_quant` of float32 tensors with `keras.ops` alone."""
    others = [axis for axis in range(len(x.shape)) if axes is None or axis not in axes]

    @ops.custom_gradient
    def quantized(x: Tensor, minimum: Tensor, maximum: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        low, high, scale, inverse, zero_point = _nudged(
            ops, _spread(minimum, x, axes, "minimum"), _spread(maximum, x, axes, "maximum"), bits, narrow
        )
        # TensorFlow's kernel divides per tensor and multiplies per channel; halfway between two integers it matters.
        how = {"scale": scale} if axes is None else {"inverse": inverse}
        output = _integers(ops, x, (low, high), zero_point - float(narrow), **how) * scale

        def gradient(*arguments: Tensor, **keywords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            upstream = _upstream(arguments, keywords)
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
    """Return the range, or one so wide that everything rounds to 0 if it is empty: XLA's kernel would give NaN then.

    The number of steps below zero is a power of two, so that zero is exactly zero, also with XLA.
    """
    step, below = 2.0**80, 2.0 ** (bits - 2)
    empty = maximum - minimum < LEAST_WIDTH
    above = 2.0**bits - 1.0 - float(narrow) - below
    return ops.where(empty, -below * step, minimum), ops.where(empty, above * step, maximum)


def fake_quant(
    x: Tensor, minimum: Tensor, maximum: Tensor, *, bits: int = 8, narrow: bool = False, axis: Axis = None
) -> Tensor:
    """Return `x` rounded to the grid that `bits` give the range, saturated at its ends; differentiable.

    Values and gradients are those of `tf.quantization.fake_quant_with_min_max_vars` and `..._per_channel`, on every
    backend: the gradient passes through the rounding inside the nudged range (straight-through estimator, Bengio et
    al. 2013, arXiv:1308.3432), what lies below or above it goes to `minimum` or `maximum`.

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
    _check_bits(bits)
    x, dtype = _float32(x)
    axes = None if axis is None else _check_axes(axis, len(x.shape))
    minimum, maximum = _float32(minimum)[0], _float32(maximum)[0]
    for name, end in (("minimum", minimum), ("maximum", maximum)):
        _spread(end, x, axes, name)
    # TensorFlow's kernel per channel takes three times as long as plain operations (it walks the channels one by one).
    if axes is None and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        ends = _open_if_empty(minimum, maximum, bits, narrow)
        output = tf.quantization.fake_quant_with_min_max_vars(x, *ends, num_bits=bits, narrow_range=narrow)
    else:
        output = _fake_quant_with_ops(x, minimum, maximum, bits=bits, narrow=narrow, axes=axes)
    return ops.cast(output, dtype)


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
    axes = () if axis is None else _check_axes(axis, len(x.shape))
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
    _check_bits(bits)
    x, dtype = _float32(x)
    axes = None if axis is None else _check_axes(axis, len(x.shape))
    others = [a for a in range(len(x.shape)) if axes is None or a not in axes]
    limit, _ = _float32(limit)
    _spread(limit, x, axes, "limit")

    @ops.custom_gradient
    def quantized(x: Tensor, limit: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        low, high, scale, inverse, offset = _symmetric(ops, _spread(limit, x, axes, "limit"), bits)
        how = {"scale": scale} if axes is None else {"inverse": inverse}
        output = _integers(ops, x, (low, high), offset, **how) * scale

        def gradient(*arguments: Tensor, **keywords: Tensor) -> tuple[Tensor, Tensor]:
            upstream = _upstream(arguments, keywords)
            zero = ops.zeros((), upstream.dtype)
            end = ops.where(scale == 0, np.inf, high)
            size = ops.abs(x)
            outside = ops.where(size > end, upstream * ops.sign(x), zero)
            return ops.where(size <= end, upstream, zero), ops.sum(outside, axis=others)

        return output, gradient

    return ops.cast(quantized(x, limit), dtype)


def _blocks(x: np.ndarray, axis: Axis, group_size: int | None) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    """Return `x`, reshaped for groups, the axes whose values share a scale, and the scales' shape."""
    if group_size is None:
        axes = () if axis is None else _check_axes(axis, x.ndim)
        return x, tuple(a for a in range(x.ndim) if a not in axes), tuple(x.shape[a] for a in axes)
    if axis is None:
        raise ValueError("Expected axis, along which group_size values share a scale. Received: axis=None.")
    (along, *more) = _check_axes(axis, x.ndim)
    whole = isinstance(group_size, (int, np.integer)) and not isinstance(group_size, bool) and group_size > 0
    if more or not whole or x.shape[along] % group_size:
        raise ValueError(
            f"Expected group_size to divide the {x.shape[along]} values of one axis. "
            f"Received: group_size={group_size!r}, axis={axis!r}."
        )
    groups = x.shape[along] // int(group_size)
    shape = (*x.shape[:along], groups, *x.shape[along + 1 :])
    return x.reshape(*x.shape[:along], groups, group_size, *x.shape[along + 1 :]), (along + 1,), shape


def _checked(x: Any, name: str = "x") -> np.ndarray:
    x = np.asarray(x)
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


def uniform_quantize(
    x: Any,
    bits: int = 8,
    *,
    symmetric: bool = False,
    narrow: bool = False,
    axis: Axis = None,
    group_size: int | None = None,
    minimum: Any = None,
    maximum: Any = None,
    mode: str = "round",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return integers, scales and zero points that stand for `x`: x is about (q - zero_point) * scale.

    With `mode="round"` the values are those of `fake_quant` and, symmetric and narrow, `fake_quant_symmetric`.

    Args:
        x: Array of finite numbers.
        bits: 2 to 16.
        symmetric: Integers around 0, zero point 0, of scale limit / (2^(bits-1) - 1), where limit is the largest |x|.
            Else they count from 0 and the range is nudged as in `nudge`.
        narrow: Whether the lowest integer stays unused.
        axis: `None`: one scale; without `group_size` the channel axes, each channel with a scale of its own.
        group_size: As many consecutive values along `axis` (now a single one, such as 0, the inputs of a Dense
            kernel) share a scale. It must divide the length.
        minimum: Lower end of the range, a scalar or of the scale's shape; `None`: that of the values. What lies
            beyond saturates. The range is extended to hold 0.
        maximum: Upper end, alike.
        mode: "round", to the nearest, or "floor": the textbook's Q(x) = (M/L) * floor(x / (M/L)), where M is the
            largest |x| (or of `minimum` and `maximum`) and L = 2^(bits-1) - 1 the number of levels on either side of
            zero. It is symmetric and narrow whatever these arguments say, and its error is twice as large.

    Returns:
        q: Of the shape of `x`; symmetric: int8 or, above 8 bits, int16; else uint8 or uint16.
        scale: float32. Of shape (); with `axis` that of `x` along `axis`; with groups that of `x` with the length of
            `axis` divided by `group_size`. 1 where all values are 0.
        zero_point: int32, of the scale's shape.

    Raises:
        ValueError: If `x` is empty, holds NaN or infinity, or nothing but zeros (which have no scale); if an argument
            is out of range. A constant other than 0 is fine: the range holds 0, too.

    Example:

    >>> q, scale, zero_point = uniform_quantize([-1.0, 0.0, 0.5, 1.0], bits=4, symmetric=True)
    >>> q.tolist(), round(float(scale), 4), int(zero_point)
    ([-7, 0, 4, 7], 0.1429, 0)
    >>> kernel = np.linspace(-1, 1, 64).reshape(16, 4)
    >>> uniform_quantize(kernel, bits=4, axis=0, group_size=8)[1].shape
    (2, 4)
    """
    _check_bits(bits)
    if mode not in MODES:
        raise ValueError(f"Expected mode to be one of {MODES}. Received: mode={mode!r}.")
    x = _checked(x)
    view, shared, shape = _blocks(x, axis, group_size)
    ends = []
    for name, given, reduce in (("minimum", minimum, np.min), ("maximum", maximum, np.max)):
        if given is None:
            ends.append(reduce(view, axis=shared, keepdims=True))
            continue
        end = _checked(given, name)
        if end.shape not in ((), shape):
            raise ValueError(f"Expected {name} to be a scalar or of shape {shape}. Received: shape {end.shape}.")
        ends.append(np.expand_dims(np.broadcast_to(end, shape), shared))
    if np.any(ends[0] > ends[1]):
        raise ValueError("Expected maximum to be at least minimum. Received: a range that ends below its start.")
    low, high = np.minimum(ends[0], np.float32(0)), np.maximum(ends[1], np.float32(0))
    if not np.any(high - low >= LEAST_WIDTH):
        raise ValueError(
            "Expected a value other than 0: zeros have no scale. Received: nothing but zeros. "
            "Give minimum and maximum if zeros are meant."
        )
    signed = symmetric or mode == "floor"
    if signed:
        limit = np.maximum(-low, high)
        first, last, scale, inverse, offset = _symmetric(np, limit, bits, narrow or mode == "floor")
        zero_point = np.zeros(shape, np.int32)
        shift: Any = 0
    else:
        first, last, scale, inverse, shift = _nudged(np, low, high, bits, narrow)
        offset = shift - float(narrow)
        zero_point = shift.reshape(shape).astype(np.int32)
    if mode == "floor":
        # In float64, for M itself to be level L.
        levels = 2.0 ** (bits - 1) - 1
        size = np.where(scale == 0, 1.0, limit.astype(np.float64))
        q = np.floor(np.clip(view, -limit, limit) * levels / size)
    else:
        how = {"scale": scale} if axis is None else {"inverse": inverse}
        q = _integers(np, view, (first, last), offset, **how) + shift
    dtype = f"{'' if signed else 'u'}int{8 if bits <= 8 else 16}"
    scale = np.where(scale == 0, np.float32(1), scale).astype(np.float32).reshape(shape)
    return q.reshape(x.shape).astype(dtype), scale, zero_point


def dequantize(q: Any, scale: Any, zero_point: Any, *, axis: Axis = None, group_size: int | None = None) -> np.ndarray:
    """Return (q - zero_point) * scale.

    Args:
        q: Integers.
        scale: As `uniform_quantize` returned it for the same `axis` and `group_size`.
        zero_point: Integers of the scale's shape.
        axis: As given to `uniform_quantize`.
        group_size: As given to `uniform_quantize`.

    Returns:
        float32, of the shape of `q`.

    Raises:
        ValueError: If `q` holds no integers, or the shapes don't fit.

    Example:

    >>> dequantize(np.int8([-7, 0, 4]), 0.5, 0).tolist()
    [-3.5, 0.0, 2.0]
    """
    q, scale, zero_point = np.asarray(q), np.asarray(scale, np.float32), np.asarray(zero_point)
    if q.dtype.kind not in "iu" or zero_point.dtype.kind not in "iu":
        raise ValueError(f"Expected integers. Received: q of {q.dtype}, zero_point of {zero_point.dtype}.")
    view, shared, shape = _blocks(q, axis, group_size)
    if scale.shape != shape or zero_point.shape != shape:
        raise ValueError(
            f"Expected scale and zero_point of shape {shape} for q of shape {q.shape}, axis={axis!r}, "
            f"group_size={group_size!r}. Received: shapes {scale.shape} and {zero_point.shape}."
        )
    steps = view.astype(np.int32) - np.expand_dims(zero_point.astype(np.int32), shared)
    return (steps.astype(np.float32) * np.expand_dims(scale, shared)).reshape(q.shape)


@dataclasses.dataclass(frozen=True)
class QuantizationError:
    """What rounding to a grid costs.

    Attributes:
        mse: Mean squared error.
        sqnr: Power of the values over that of the error, in dB; infinite without an error.
        max: Largest absolute error.
    """

    mse: float
    sqnr: float
    max: float

    def __str__(self) -> str:
        return f"mse {self.mse:.3g}, sqnr {self.sqnr:.1f} dB, max {self.max:.3g}"


def quantization_error(x: Any, bits: int = 8, **how: Any) -> QuantizationError:
    """Return the error of `x` quantized and dequantized.

    Args:
        x: Array of finite numbers.
        bits: 2 to 16.
        **how: As `uniform_quantize` takes it.

    Returns:
        The error in float64.

    Raises:
        ValueError: As `uniform_quantize`.

    Example:

    Dropping the fraction instead of rounding costs 6 dB, a bit:

    >>> wave = np.sin(np.linspace(0, 6.283, 1000))
    >>> print(quantization_error(wave, symmetric=True))
    mse 5.01e-06, sqnr 50.0 dB, max 0.00392
    >>> print(quantization_error(wave, mode="floor"))
    mse 2.1e-05, sqnr 43.8 dB, max 0.00787
    """
    axis, group_size = how.get("axis"), how.get("group_size")
    back = dequantize(*uniform_quantize(x, bits, **how), axis=axis, group_size=group_size)
    exact = np.asarray(x).astype(np.float64)
    error = np.abs(exact - back)
    mse, power = float(np.mean(np.square(error))), float(np.mean(np.square(exact)))
    sqnr = math.inf if mse == 0 else -math.inf if power == 0 else 10 * math.log10(power / mse)
    return QuantizationError(mse, sqnr, float(error.max()))
