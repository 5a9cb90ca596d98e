"""The integers behind a float constant that lies on a grid."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfcompress.export.scheme import shared_grids

TOLERANCE = 0.01
"""In steps: what float32 rounding, and a factor that the converter folds into a kernel, may add up to."""

PIECE = 1 << 20
"""How many values are looked at together."""

LARGEST_BIAS = 2**30
"""In steps of `input * weights`: room for the sum that the bias starts."""


@dataclasses.dataclass(frozen=True)
class Integers:
    """A constant as `scale * values`.

    Attributes:
        values: int8, of the constant's shape.
        scale: float32: one value, or one for each place along `axis`.
        axis: The dimension that `scale` counts.
    """

    values: np.ndarray
    scale: np.ndarray
    axis: int

    @property
    def per_channel(self) -> bool:
        """Whether each channel has a scale of its own."""
        return len(self.scale) > 1


def recover(constant: np.ndarray, axis: int, bits: int = 8, per_channel: bool = True) -> Integers | None:
    """Return the integers that a constant's values stand for, or `None` where they lie on no symmetric grid.

    The largest |value| of a channel is the largest integer, so nothing needs to be known but the values.

    Args:
        constant: float32, of any shape.
        axis: The dimension of channels.
        bits: The largest integer is `2**(bits - 1) - 1`.
        per_channel: Whether each channel has a grid of its own.

    Example:

    >>> found = recover(np.array([[2.5, -63.5], [0.0, 127.0]], "float32"), axis=0)
    >>> found.values.tolist(), found.scale.tolist()
    ([[5, -127], [0, 127]], [0.5, 1.0])
    >>> recover(np.array([[0.5, -1.2312]], "float32"), axis=0) is None
    True
    """
    if constant.ndim == 0 or constant.size == 0 or not np.isfinite(constant).all():
        return None
    most = 2 ** (bits - 1) - 1
    others = tuple(dimension for dimension in range(constant.ndim) if dimension != axis) if per_channel else None
    largest = np.abs(constant).max(axis=others, keepdims=True)
    found = _on_grid(constant, axis, largest, most)
    if found is not None or not per_channel or not largest.any():
        return found
    candidates = shared_grids(largest.reshape(-1))
    grids = (_on_grid(constant, axis, shared.reshape(largest.shape), most) for shared in candidates)
    return next((found for found in grids if found is not None), None)


def _on_grid(constant: np.ndarray, axis: int, largest: np.ndarray, most: int) -> Integers | None:
    """Return a constant's integers on the grids whose largest integer is the largest value; None: it isn't on them."""
    scale = np.where(largest > 0, largest / np.float32(most), np.float32(1)).astype(np.float32)
    values = np.empty(constant.shape, np.int8)
    rows = max(1, PIECE * len(constant) // constant.size)
    for start in range(0, len(constant), rows):  # float64 of a whole kernel is eight times its integers
        piece = slice(start, start + rows)
        steps = constant[piece].astype(np.float64) / (scale[piece] if len(scale) > 1 else scale)
        rounded = np.round(steps)
        if np.abs(steps - rounded).max() > TOLERANCE:
            return None
        values[piece] = rounded
    return Integers(values, scale.reshape(-1), axis)


def leave_room(found: Integers, step: np.float32, bias: np.ndarray) -> Integers:
    """Return weights whose scale lets the bias fit into 32 bits: the same, but for channels of next to no weights.

    Args:
        found: The weights.
        step: The input's scale.
        bias: float32, one value for each channel.
    """
    largest = np.abs(bias.astype(np.float64)).reshape(-1)
    if not found.per_channel:
        largest = largest.max(keepdims=True)
    needed = largest / (float(step) * LARGEST_BIAS)
    others = tuple(dimension for dimension in range(found.values.ndim) if dimension != found.axis)
    empty = ~found.values.any(axis=others if found.per_channel else None).reshape(-1)
    # With no weights any scale will do: one that holds the bias to 20 bits.
    scale = np.where(empty & (largest > 0), needed * 2**10, np.maximum(found.scale, needed)).astype(np.float32)
    if (scale == found.scale).all():
        return found
    factor = np.broadcast_to(found.scale / scale, scale.shape).reshape(_along(found))
    return Integers(np.round(found.values * factor).astype(np.int8), scale, found.axis)


def largest_sum(found: Integers, bias: np.ndarray) -> float:
    """Return the largest magnitude that a sum over any input of 16 bits can reach, in steps of `input * weights`.

    >>> largest_sum(Integers(np.array([[3, -4]], "int8"), np.ones(1, "float32"), 0), np.array([10.0]))
    229386.0
    """
    others = tuple(dimension for dimension in range(found.values.ndim) if dimension != found.axis)
    sums = np.abs(found.values.astype(np.float64)).sum(axis=others)
    return float((sums * 2**15 + np.abs(bias)).max())


def _along(found: Integers) -> tuple[int, ...]:
    """Return the shape in which the scales broadcast with the values."""
    shape = [1] * found.values.ndim
    if found.per_channel:
        shape[found.axis] = -1
    return tuple(shape)
