"""Addition in a `call` that is opened: TensorFlow's own, which Keras' isn't where sizes coincide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

Shape = tuple[int | None, ...]


def added(x: Any, y: Any, otherwise: Callable[[Any, Any], Any]) -> Any:
    """Return the sum of two values, one of them a symbolic tensor, that broadcasts whatever sizes there will be.

    On TensorFlow `keras.ops.add`, and `x + y` of symbolic tensors, takes a `y` with one size above 1 for a bias (see
    `ambiguous`). It doesn't if the other is the first to be added.

    Args:
        x: A tensor, an array or a number.
        y: Another.
        otherwise: Adds where neither order will do.

    Example:

    >>> x, y = keras.Input((4, 4)), keras.Input((4, 1))
    >>> [z is x for z in added(x, y, None)._keras_history.operation._inbound_nodes[0].input_tensors]
    [False, True]
    """
    shapes = shape_of(x), shape_of(y)
    if keras.backend.backend() != "tensorflow" or not ambiguous(*shapes):
        return ops.add(x, y)
    return otherwise(x, y) if ambiguous(shapes[1], shapes[0]) else ops.add(y, x)


def ambiguous(x: Shape, y: Shape) -> bool:
    """Return whether Keras on TensorFlow may add `y` along another axis of `x` than that of its values.

    It adds along the last axis of `x` as many values as that has, else along the second. A free size is any.

    Args:
        x: Shape of the first.
        y: Shape of the second.

    >>> ambiguous((None, 4, 3), (3,)), ambiguous((None, 4, 3), (4, 1)), ambiguous((None, 4, 4), (4, 1))
    (False, False, True)
    >>> ambiguous((None, 8), (None, 1))  # with as many samples as columns
    True
    """
    if len(x) < 2:
        return False
    for place, size in enumerate(y):
        own = place + len(x) - len(y)
        if size == 1 or any(other not in (1, None) for at, other in enumerate(y) if at != place):
            continue
        if own >= 0 and not _may_be(x[own], size) and x[own] != 1:
            continue  # these can't be added
        for axis in (len(x) - 1, 1):
            if axis != own and _may_be(x[axis], size) and not (axis == 1 and _surely(x[-1], size)):
                return True
    return False


def _may_be(size: int | None, other: int | None) -> bool:
    return size is None or other is None or size == other


def _surely(size: int | None, other: int | None) -> bool:
    return size is not None and size == other


def shape_of(value: Any) -> Shape:
    """Return the shape of a tensor, an array or a number."""
    return tuple(value.shape if hasattr(value, "shape") else np.shape(value))
