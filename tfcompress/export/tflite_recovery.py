"""The integers behind a float constant that lies on a grid."""

from __future__ import annotations

import dataclasses

import numpy as np

TOLERANCE = 0.01
"""In steps: what float32 rounding, and a factor that the converter folds into a kernel, may add up to."""


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

    >>> found = recover(np.array([[0.5, -1.27], [0.0, 2.54]], "float32"), axis=0)
    >>> found.values.tolist(), found.scale.round(4).tolist()
    ([[50, -127], [0, 127]], [0.01, 0.02])
    >>> recover(np.array([[0.5, -1.2312]], "float32"), axis=0) is None
    True
    """
    if constant.ndim == 0 or constant.size == 0 or not np.isfinite(constant).all():
        return None
    most = 2 ** (bits - 1) - 1
    others = tuple(dimension for dimension in range(constant.ndim) if dimension != axis) if per_channel else None
    largest = np.abs(constant).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / np.float32(most), np.float32(1)).astype(np.float32)
    steps = constant.astype(np.float64) / scale
    values = np.round(steps)
    if np.abs(steps - values).max() > TOLERANCE:
        return None
    return Integers(values.astype(np.int8), scale.reshape(-1), axis)
