"""The integers of a constant that lies on a grid already, found again without loss."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from tfcompress.export.scheme import shared_grids

TOLERANCE = 2.0**-13
"""How far, in steps of the grid, a value may lie from its integer: what float32 leaves of q * scale."""

PIECE = 1 << 20
"""How many values are looked at together."""

LEAST_VALUES_OF_A_GRID = 4
"""How many values must share a scale for their integers to take less space."""


@dataclasses.dataclass(frozen=True)
class Integers:
    """An array as integers * scale.

    Attributes:
        values: int8, of the array's shape.
        scale: float32, of the array's rank; along an axis either as long as it (one scale for each index) or 1.
    """

    values: np.ndarray
    scale: np.ndarray

    @property
    def axis(self) -> int | None:
        """The axis along which scales differ; None for a single scale.

        Raises:
            ValueError: they differ along several.
        """
        axes = [axis for axis, size in enumerate(self.scale.shape) if size > 1]
        if len(axes) > 1:
            raise ValueError(f"Expected scales along one axis. Received: scales of shape {self.scale.shape}.")
        return axes[0] if axes else None


def recover(array: np.ndarray, axes: tuple[int, ...], bits: int = 8) -> Integers | None:
    """Find the symmetric grid on which an array lies: every |w| a whole multiple of max|w| / (2**(bits-1) - 1).

    Args:
        array: float32, of any shape.
        axes: along which each index has a grid of its own; (): one grid for all.
        bits: of the grid, at most 8.

    Returns:
        Its `Integers`, or None if it doesn't lie on such a grid.

    >>> recover(np.array([[0.5, 127.0], [-63.5, 1.0]], "float32"), axes=(1,)).values.tolist()
    [[1, 127], [-127, 1]]
    """
    levels = 2 ** (bits - 1) - 1
    others = tuple(axis for axis in range(array.ndim) if axis not in {axis % array.ndim for axis in axes})
    if array.dtype != np.float32 or not array.size:
        return None
    largest = _largest(array, others)
    return _on_grid(array, largest, levels, others) if np.isfinite(largest).all() else None


def _largest(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return the largest magnitude along axes, which stay with size 1; without a copy of the array."""
    highest = array.max(axis=axes, keepdims=True, initial=0.0)
    return np.asarray(np.maximum(highest, -array.min(axis=axes, keepdims=True, initial=0.0)))


def _pieces(array: np.ndarray) -> Iterator[tuple[slice, ...]]:
    """Yield places along the first axis that together are all of an array, each of some values."""
    if array.ndim:
        rows = max(1, PIECE * len(array) // array.size)
        yield from ((slice(start, start + rows),) for start in range(0, len(array), rows))
    else:
        yield ()


def _part(scale: np.ndarray, piece: tuple[slice, ...]) -> np.ndarray:
    return scale[piece] if scale.shape[:1] != (1,) else scale


def _on_grid(array: np.ndarray, largest: np.ndarray, levels: int, others: tuple[int, ...]) -> Integers | None:
    """Return an array's integers on the grids whose largest integer is the largest value; None: it isn't on them."""
    scale = np.where(largest > 0, largest / np.float32(levels), np.float32(1.0)).astype(np.float32)
    values = np.empty(array.shape, np.int8)
    for piece in _pieces(array):
        steps = array[piece] / _part(scale, piece)
        rounded = np.rint(steps)
        if np.abs(steps - rounded).max() > TOLERANCE:
            return None
        values[piece] = rounded
    return Integers(values, _exact_scale(array, values, scale, others))


def _exact_scale(array: np.ndarray, integers: np.ndarray, scale: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return, of a scale and its two neighbours in float32, that which makes the most values again bit by bit.

    The largest value is a rounded multiple of the scale; dividing it may miss by the last bit.
    """

    def hits(of: np.ndarray) -> Iterator[np.ndarray]:
        for piece in _pieces(array):
            yield integers[piece].astype(np.float32) * _part(of, piece) == array[piece]

    def count(of: np.ndarray) -> np.ndarray:
        counted = [hit.sum(axis=axes, keepdims=True) for hit in hits(of)]
        return np.asarray(np.sum(counted, axis=0) if 0 in axes or not array.ndim else np.concatenate(counted))

    if all(hit.all() for hit in hits(scale)):
        return scale
    below, above = np.nextafter(scale, np.float32(0)), np.nextafter(scale, np.float32(np.inf))
    candidates = np.stack([scale, below, above])
    best = np.stack([count(each) for each in candidates]).argmax(axis=0)
    return np.asarray(np.take_along_axis(candidates, best[None], axis=0)[0])


def recover_any(array: np.ndarray, bits: int = 8, likely: tuple[int, ...] | None = None) -> Integers | None:
    """Find the coarsest grid on which an array lies: one for all, else one per index of an axis, or of two axes.

    Args:
        array: float32.
        bits: of the grid.
        likely: axes to try before the others.

    Returns:
        Its `Integers`, or None.
    """
    single = [(axis,) for axis in reversed(range(array.ndim))]
    double = list(itertools.combinations(range(array.ndim), 2)) if array.ndim > 2 else []
    for axes in dict.fromkeys([(), *([likely] if likely is not None else []), *single, *double]):
        if np.prod([array.shape[axis] for axis in axes]) * LEAST_VALUES_OF_A_GRID > array.size:
            continue  # one value alone lies on a grid of its own
        found = recover(array, axes, bits)
        if found is not None:
            return found
    return next((found for axis in reversed(range(array.ndim)) if (found := _joined(array, axis, bits))), None)


def _joined(array: np.ndarray, axis: int, bits: int) -> Integers | None:
    """Find the grids along an axis that was made of two, of which one has the grids."""
    others = tuple(other for other in range(array.ndim) if other != axis)
    if array.dtype != np.float32 or not array.size:
        return None
    largest = _largest(array, others)
    if not np.isfinite(largest).all() or not largest.any():
        return None
    levels = 2 ** (bits - 1) - 1
    for grids in shared_grids(largest.reshape(-1)):
        shared = grids.reshape(largest.shape)
        if len(np.unique(grids)) * LEAST_VALUES_OF_A_GRID > array.size:
            continue
        if _on_grid(array[:1], shared[:1], levels, others) is not None:  # most aren't: seen from a piece
            found = _on_grid(array, shared, levels, others)
            if found is not None:
                return found
    return None
