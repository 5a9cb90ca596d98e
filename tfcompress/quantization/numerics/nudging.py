"""Uniform grids of ranges: scale, zero point and ends, with numpy or `keras.ops`.

They are those of TensorFlow's fake-quantization kernels, number by number in float32: these carry a range into a file.
Numbers are rounded as runtimes do it: x times 1 / scale (LiteRT; ONNX Runtime divides, which is the same but next to
a half), halves to even, then the zero point is added. So simulation, arrays and files have the same integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from tfcompress.quantization.numerics.finite import check_bits, checked_range

LEAST_WIDTH = 2.0**-100
"""Ranges narrower than that count as (0, 0): float32 could not hold the inverse of their scale."""

ONE, INFINITY = np.float32(1), np.float32(np.inf)


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


def grid_of_scale(xp: Any, scale: Any, bits: int, narrow: bool) -> tuple[Any, Any, Any, Any]:
    """Return the least and the largest number of the symmetric grid of a scale, that scale above 0, and its inverse."""
    highest = 2 ** (bits - 1) - 1
    lowest = -highest if narrow else -highest - 1
    scale = xp.maximum(scale, np.float32(LEAST_WIDTH))
    return float(lowest) * scale, float(highest) * scale, scale, ONE / scale


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


def is_host(*values: Any) -> bool:
    """Return whether values are numbers and arrays, and no tensors."""
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
    if is_host(minimum, maximum):
        low, high, scale, _, zero_point = nudged_grid(np, *checked_range(minimum, maximum), bits, narrow)
        return low, high, scale, zero_point
    low, high = (ops.cast(ops.convert_to_tensor(end), "float32") for end in (minimum, maximum))
    low, high, scale, _, zero_point = nudged_grid(ops, low, high, bits, narrow)
    return low, high, scale, zero_point
