"""Quantization of arrays: integers, scales and zero points, and the error they make."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from tfcompress.core.arguments import check_choice, check_flags
from tfcompress.quantization.numerics.fake_quant import Axis, check_axes
from tfcompress.quantization.numerics.finite import array_of, check_bits, checked, checked_range
from tfcompress.quantization.numerics.nudging import LEAST_WIDTH, integers, nudged_grid, symmetric_grid

MODES = ("round", "floor")


def _blocks(x: np.ndarray, axis: Axis, group_size: int | None) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    """Return `x`, reshaped for groups, the axes whose values share a scale, and the scales' shape."""
    if group_size is None:
        axes = () if axis is None else check_axes(axis, x.ndim)
        return x, tuple(a for a in range(x.ndim) if a not in axes), tuple(x.shape[a] for a in axes)
    if axis is None:
        raise ValueError("Expected axis, along which group_size values share a scale. Received: axis=None.")
    (along, *more) = check_axes(axis, x.ndim)
    whole = isinstance(group_size, (int, np.integer)) and not isinstance(group_size, bool) and group_size > 0
    if more or not whole or x.shape[along] % group_size:
        raise ValueError(
            f"Expected group_size to divide the {x.shape[along]} values of one axis. "
            f"Received: group_size={group_size!r}, axis={axis!r}."
        )
    groups = x.shape[along] // int(group_size)
    shape = (*x.shape[:along], groups, *x.shape[along + 1 :])
    return x.reshape(*x.shape[:along], groups, group_size, *x.shape[along + 1 :]), (along + 1,), shape


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
            is out of range, or the range wider than float32 holds. A constant other than 0 is fine: the range holds
            0, too.

    Example:

    >>> q, scale, zero_point = uniform_quantize([-1.0, 0.0, 0.6, 1.0], bits=4, symmetric=True)
    >>> q.tolist(), round(float(scale), 4), int(zero_point)
    ([-7, 0, 4, 7], 0.1429, 0)
    >>> kernel = np.linspace(-1, 1, 64).reshape(16, 4)
    >>> uniform_quantize(kernel, bits=4, axis=0, group_size=8)[1].shape
    (2, 4)
    """
    bits = check_bits(bits)
    check_flags(symmetric=symmetric, narrow=narrow)
    check_choice("mode", mode, MODES)
    x = checked(x)
    view, shared, shape = _blocks(x, axis, group_size)
    ends = []
    for name, given, reduce in (("minimum", minimum, np.min), ("maximum", maximum, np.max)):
        if given is None:
            ends.append(reduce(view, axis=shared, keepdims=True))
            continue
        end = checked(given, name)
        if end.shape not in ((), shape):
            raise ValueError(f"Expected {name} to be a scalar or of shape {shape}. Received: shape {end.shape}.")
        ends.append(np.expand_dims(np.broadcast_to(end, shape), shared))
    signed = symmetric or mode == "floor"
    low, high = np.minimum(ends[0], np.float32(0)), np.maximum(ends[1], np.float32(0))
    if np.any(ends[0] > ends[1]) or not signed:
        checked_range(ends[0], ends[1])
        checked_range(low, high)
    if not np.any(np.maximum(-low, high) >= LEAST_WIDTH / 2):
        raise ValueError(
            "Expected a value other than 0: zeros have no scale. Received: nothing but zeros, or next to them. "
            "Give minimum and maximum if zeros are meant."
        )
    if signed:
        limit = np.maximum(-low, high)
        with np.errstate(over="ignore"):  # the lowest integer, which isn't narrow, may lie beyond float32
            first, last, scale, inverse = symmetric_grid(np, limit, bits, narrow or mode == "floor")
        zero_point = np.zeros(shape, np.int32)
        shift: Any = 0
    else:
        first, last, scale, inverse, shift = nudged_grid(np, low, high, bits, narrow)
        zero_point = shift.reshape(shape).astype(np.int32)
    if mode == "floor":
        # In float64, which holds the product exactly, for M itself to be level L and -M level -L.
        levels = 2.0 ** (bits - 1) - 1
        size = np.where(scale == 0, 1.0, limit.astype(np.float64))
        q = np.floor(np.clip(view, -limit, limit).astype(np.float64) * levels / size)
    else:
        q = integers(np, view, (first, last), inverse) + shift
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
        ValueError: If `q` holds no integers, the shapes don't fit, a scale is not a finite number above 0, or a result
            is beyond float32.

    Example:

    >>> dequantize(np.int8([-7, 0, 4]), 0.5, 0).tolist()
    [-3.5, 0.0, 2.0]
    """
    q, scale, zero_point = array_of(q, "q"), checked(scale, "scale"), array_of(zero_point, "zero_point")
    if scale.min() <= 0:
        raise ValueError(f"Expected scale to be above 0. Received: {float(scale.min()):.6g}.")
    if q.dtype.kind not in "iu" or zero_point.dtype.kind not in "iu":
        raise ValueError(f"Expected integers. Received: q of {q.dtype}, zero_point of {zero_point.dtype}.")
    view, shared, shape = _blocks(q, axis, group_size)
    if scale.shape != shape or zero_point.shape != shape:
        raise ValueError(
            f"Expected scale and zero_point of shape {shape} for q of shape {q.shape}, axis={axis!r}, "
            f"group_size={group_size!r}. Received: shapes {scale.shape} and {zero_point.shape}."
        )
    for name, value in (("q", q), ("zero_point", zero_point)):
        if value.size and not -(2**31) <= int(value.min()) <= int(value.max()) < 2**31:
            raise ValueError(f"Expected {name} to hold 32-bit integers. Received: {value.min()} to {value.max()}.")
    shifted = view.astype(np.int64) - np.expand_dims(zero_point.astype(np.int64), shared)
    with np.errstate(over="ignore"):
        made = shifted.astype(np.float32) * np.expand_dims(scale, shared)
    if not np.isfinite(made).all():
        raise ValueError(
            f"Expected numbers that float32 holds. Received: a scale of {float(scale.max()):.6g} for integers up to "
            f"{int(np.abs(shifted).max())} scales from zero."
        )
    return made.reshape(q.shape)


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
    mse 2.09e-05, sqnr 43.8 dB, max 0.00786
    """
    axis, group_size = how.get("axis"), how.get("group_size")
    back = dequantize(*uniform_quantize(x, bits, **how), axis=axis, group_size=group_size)
    exact = np.asarray(x).astype(np.float64)
    error = np.abs(exact - back)
    mse, power = float(np.mean(np.square(error))), float(np.mean(np.square(exact)))
    sqnr = math.inf if mse == 0 else -math.inf if power == 0 else 10 * math.log10(power / mse)
    return QuantizationError(mse, sqnr, float(error.max()))
