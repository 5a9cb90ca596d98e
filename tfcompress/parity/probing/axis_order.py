"""In which order of axes a tensor of a file is one of Keras."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence

import numpy as np

MOST_AXES = 5
"""Up to which rank the axes of a file's tensor may stand in any order."""


def laid_alike(
    value: np.ndarray, reference: np.ndarray, joined: bool = False
) -> tuple[tuple[int, ...] | None, np.ndarray] | None:
    """Return the order of axes in which a file's tensor is most like one of Keras, and the tensor in its shape.

    Args:
        value: of the file.
        reference: of as many values.
        joined: whether axes that are joined in the one of them may stand in any order, too, as in kernels.

    Returns:
        The order, None for as it is, and `value` laid so; None if no order, nor reshaping, makes it of that shape.

    >>> laid_alike(np.array([[1, 3, 5], [2, 4, 6]]), np.array([[1, 2], [3, 4], [5, 6]]))[0]
    (1, 0)
    >>> kernel = np.arange(24).reshape(6, 2, 2)
    >>> laid_alike(kernel.reshape(6, 4).T, kernel, joined=True)[0]
    (1, 0)
    """
    wanted = _without_ones(reference.shape)
    orders = itertools.permutations(range(value.ndim)) if value.ndim <= MOST_AXES else ()
    ways = [way for way in orders if way != tuple(range(value.ndim))]
    # A one-dimensional convolution has an axis of length 1 in a file, and the channels in front.
    alike: list[tuple[int, ...] | None] = [
        way for way in [None, *ways] if _without_ones(in_order(value, way).shape) == wanted
    ]
    others = [None, *ways] if joined else [None]
    fits = alike or [way for way in others if _reshapes(in_order(value, way).shape, reference.shape)]
    if not fits:
        return None
    laid = ((way, in_order(value, way).reshape(reference.shape)) for way in fits)
    return min(laid, key=lambda pair: float(np.square(pair[1] - reference).sum()))


def in_order(value: np.ndarray, way: tuple[int, ...] | None) -> np.ndarray:
    """Return a tensor with its axes in another order; None: as they are."""
    return value if way is None else value.transpose(way)


def _reshapes(one: Sequence[int], other: Sequence[int]) -> bool:
    """Return whether joining neighbouring axes of one shape, and nothing else, makes the other.

    >>> _reshapes((30, 4), (5, 6, 4)), _reshapes((6, 5), (5, 6))
    (True, False)
    """
    ends = [set(itertools.accumulate(shape, operator.mul)) - {1} for shape in (one, other)]
    return ends[0] <= ends[1] or ends[1] <= ends[0]


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
