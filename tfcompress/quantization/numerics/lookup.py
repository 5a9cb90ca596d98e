"""Nearest entries of tables: found by binary search, looked up with gradients to values and tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfcompress.quantization.numerics import tensorflow_kernels
from tfcompress.quantization.numerics.custom_gradient import differentiable

Tensor = Any

MOST_COMPARED = 32
"""Entries that values are compared with one after the other; of more the right one is searched for."""

LEAST_COMPILED = 1 << 14
"""Values of which it is worth calling XLA, which takes a fifth of a millisecond."""


def places_in(edges: Tensor, values: Tensor, *, right: bool = False) -> Tensor:
    """Return how many edges of its row are below each value, int32; those that equal it count where `right` is true.

    Args:
        edges: (rows, edges), ascending.
        values: (rows, values).
        right: Whether edges that equal the value count, too.

    Example:

    >>> places_in(ops.array([[0.0, 1.0]]), ops.array([[-1.0, 0.0, 0.5, 2.0]])).numpy().tolist()
    [[0, 0, 1, 2]]
    """
    if keras.backend.backend() == "tensorflow":
        return tensorflow_kernels.places_in(edges, values, right)
    side = "right" if right else "left"

    def of_row(row: tuple[Tensor, Tensor]) -> Tensor:
        return ops.cast(ops.searchsorted(row[0], row[1], side=side), "int32")

    return ops.vectorized_map(of_row, (edges, values))


def nearest(values: Tensor, entries: Tensor) -> Tensor:
    """Return the place of the entry of its row that is nearest to each value, int32; of two the lower.

    Args:
        values: float32, (rows, values).
        entries: float32, (rows, entries), ascending.

    Example:

    >>> nearest(ops.array([[-1.0, 0.4, 0.5, 0.6]]), ops.array([[0.0, 1.0]])).numpy().tolist()
    [[0, 0, 0, 1]]
    """
    return places_in((entries[:, 1:] + entries[:, :-1]) * 0.5, values)


def nearest_with_entries(values: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `nearest` returns, and the entries at these places: what every training step computes.

    Few entries are compared one after the other, in one pass over the values where XLA compiles it.

    Args:
        values: float32, (rows, values).
        entries: float32, (rows, entries), ascending.
    """
    if int(entries.shape[1]) <= MOST_COMPARED:
        if keras.backend.backend() != "tensorflow":
            return _compared(values, entries)
        if tensorflow_kernels.traced_for_xla():
            return _compared(values, entries)
        if tensorflow_kernels.traced() and math.prod(values.shape) >= LEAST_COMPILED:
            return tensorflow_kernels.compiled(_compared)(values, entries)
    places = nearest(values, entries)
    return places, looked_up(entries, places)


def _compared(values: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    edges = (entries[:, 1:] + entries[:, :-1]) * 0.5
    places, found = ops.zeros_like(values, dtype="int32"), ops.broadcast_to(entries[:, :1], values.shape)
    for place in range(1, int(entries.shape[1])):
        above = values > edges[:, place - 1 : place]
        places = ops.where(above, place, places)
        found = ops.where(above, entries[:, place : place + 1], found)
    return places, found


def counted(places: Tensor, size: int) -> Tensor:
    """Return how often each of `size` places occurs in its row: int32, (rows, size)."""
    return _sums(ops.ones_like(places), places, size)


def without_empty(values: Tensor, entries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the place of an entry for each value, and the entries: the nearest, and where one has no value, others.

    An entry that is the nearest of no value takes the value next to it from its neighbours, and what lies outside of
    its values is moved to the next of them. So each entry has a value, and differs from the others.

    Args:
        values: float32, (rows, values).
        entries: float32, (rows, entries), ascending. Where a row has fewer different values, each gets an entry.

    Returns:
        Places, int32, (rows, values); the entries, (rows, entries), ascending; those at the places, (rows, values).

    Example:

    >>> places, entries, found = without_empty(ops.array([[1.0, 2.0, 3.0]]), ops.array([[1.5, 9.0]]))
    >>> places.numpy().tolist(), entries.numpy().tolist(), found.numpy().tolist()
    ([[0, 0, 1]], [[1.5, 3.0]], [[1.5, 1.5, 3.0]])
    """
    places, found = nearest_with_entries(values, entries)
    used = counted(places, int(entries.shape[1])) > 0

    def divided() -> tuple[Tensor, Tensor, Tensor]:
        others, moved = _divided(values, entries)
        return others, moved, looked_up(moved, others)

    return ops.cond(ops.all(used), lambda: (places, entries, found), divided)


def _divided(values: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places and entries of `without_empty` where one is empty, from the values in their order."""
    count, size = int(values.shape[1]), int(entries.shape[1])
    ordered = ops.sort(values, axis=1)
    new = ops.cast(ops.not_equal(ordered[:, 1:], ordered[:, :-1]), "int32")
    rank = ops.concatenate([ops.zeros_like(new[:, :1]), ops.cumsum(new, axis=1)], axis=1)  # among different values
    different = rank[:, -1:] + 1
    edges = (entries[:, 1:] + entries[:, :-1]) * 0.5
    behind = ops.concatenate([rank, different], axis=1)
    begins = ops.take_along_axis(behind, places_in(ordered, edges, right=True), axis=1)
    # The entry at place p begins with the value of rank begins[p - 1], which has to rise with p.
    step = ops.arange(1, size, dtype="int32")[None]
    lag = ops.clip(begins - step, 0, ops.maximum(different - size, 0))
    reach = 1
    while reach < size - 1:  # the largest so far
        lag = ops.maximum(lag, ops.pad(lag[:, :-reach], ((0, 0), (reach, 0))))
        reach *= 2
    begins = lag + step
    at = ops.minimum(places_in(rank, begins), count - 1)
    first = ops.take_along_axis(ordered, at, axis=1)
    last = ops.take_along_axis(ordered, ops.maximum(at - 1, 0), axis=1)
    low = ops.concatenate([ordered[:, :1], first], axis=1)
    high = ops.concatenate([last, ordered[:, -1:]], axis=1)
    return places_in(first, values, right=True), ops.clip(entries, low, high)


def looked_up(entries: Tensor, places: Tensor) -> Tensor:
    """Return the entries of each row at some places: (rows, places)."""
    if int(entries.shape[0]) == 1:
        return ops.take(entries[0], places[0])[None]
    return ops.take(ops.reshape(entries, (-1,)), _apart(places, int(entries.shape[1])))


def straight_through(values: Tensor, table: Tensor, places: Tensor, found: Tensor, *, mean: bool = False) -> Tensor:
    """Return entries of a table; all of their gradient passes to the values, and the sum of it to each entry.

    Args:
        values: (rows, values), what the places were found for.
        table: (rows, entries), what the entries are, or come from.
        places: int32, (rows, values).
        found: (rows, values), the entries at these places.
        mean: Whether an entry gets the mean of the gradients of its values; False: their sum.
    """
    size = int(table.shape[1])

    @differentiable
    def decoded(values: Tensor, table: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            sums = _sums(upstream, places, size)
            if mean:
                sums = sums / ops.cast(ops.maximum(counted(places, size), 1), sums.dtype)
            return upstream, sums

        return found, gradient

    return decoded(values, table)


def _sums(values: Tensor, places: Tensor, size: int) -> Tensor:
    """Return the sum of the values at each of `size` places of its row, (rows, size)."""
    rows = int(places.shape[0])
    flat, places = ops.reshape(values, (-1,)), ops.reshape(_apart(places, size), (-1,))
    if keras.backend.backend() == "tensorflow":
        found = tensorflow_kernels.sums(flat, places, rows * size)
    else:
        found = ops.segment_sum(flat, places, num_segments=rows * size)
    return ops.reshape(found, (rows, size))


def _apart(places: Tensor, size: int) -> Tensor:
    """Return places in the rows of a table as places in all of it, row after row."""
    rows = int(places.shape[0])
    return places if rows == 1 else places + ops.arange(rows, dtype="int32")[:, None] * size
