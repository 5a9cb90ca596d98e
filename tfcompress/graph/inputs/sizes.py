"""Sizes to try a model on, where its inputs leave them free: they grow until the model runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.out_of_memory import pass_on_full
from tfcompress.graph.inputs.declared import Shape

Sizes = tuple[int, ...]

COMMON = (32, 64, 128, 8, 16, 256, 512, 4, 2, 1, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
"""Sizes to try for all free dimensions alike: common ones first, then small ones, then larger and larger."""

LESS_COMMON = (3, 5, 6, 7, 10, 12, 14, 20, 24, 28, 48, 50, 96, 100, 112, 160, 192, 200, 224, 300, 331, 384, 500, 768)
"""Tried where none of those will do."""

RATIOS = ((1, 2), (2, 1), (1, 4), (4, 1), (1, 8), (8, 1), (1, 16), (16, 1))
"""How many times larger one of several inputs is than the others, or they than it."""

MOST_ELEMENTS = 2**21
"""Of one sample of one input."""

MOST_HINTS = 12
"""Sizes of weights and of other inputs that are tried."""

FEW, MANY, ELEMENTS = 4, 16, 2**18
"""Samples to try a model on: `MANY` where they have few elements, `FEW` at least."""


class NoSizeFits(Exception):
    """A model runs with none of the sizes; the cause is what it said of the first, `shapes` are those."""

    def __init__(self, shapes: list[Sizes], tried: int, cause: BaseException):
        super().__init__(f"{cause}")
        self.shapes = shapes
        self.tried = tried
        self.__cause__ = cause


def is_free(shapes: Iterable[Shape]) -> bool:
    """Return whether a size beyond the batch is unknown.

    >>> is_free([(None, 3)]), is_free([(None, None, 3)])
    (False, True)
    """
    return any(size is None for shape in shapes for size in shape[1:])


def batch_of(shapes: Iterable[Shape]) -> int | None:
    """Return the number of samples that inputs are fixed at; `None`: free.

    >>> batch_of([(None, 3), (4, 2)])
    4
    """
    return next((shape[0] for shape in shapes if shape and shape[0] is not None), None)


def how_many(shapes: Sequence[Shape]) -> int:
    """Return how many samples to try a model on whose inputs have these shapes.

    >>> how_many([(None, 4)]), how_many([(None, 224, 224, 3)]), how_many([(2, 4)])
    (16, 4, 2)
    """
    fixed = batch_of(shapes)
    if fixed is not None:
        return fixed
    elements = max((math.prod(size or 1 for size in shape[1:]) for shape in shapes), default=1)
    return max(FEW, min(MANY, ELEMENTS // max(elements, 1)))


def with_batch(shapes: Iterable[Shape], samples: int) -> list[Shape]:
    """Return shapes with a number of samples where that is free; what has no batch stays so."""
    return [(shape[0] if shape[0] is not None else samples, *shape[1:]) if shape else () for shape in shapes]


def candidates(shapes: Sequence[Shape], hints: Iterable[int] = ()) -> Iterator[list[Sizes]]:
    """Yield shapes without free sizes beyond the batch, as they are worth trying.

    First all free sizes are the same; then one that a weight or another input has; then those of one input are
    twice, half, ... those of the others, or one more or less; then each free size of an input is another one.

    Args:
        shapes: Of all inputs; the batch is known.
        hints: Sizes that may be meant.

    >>> next(candidates([(2, None, 3), (2, None)]))
    [(2, 32, 3), (2, 32)]
    """
    hints = list(dict.fromkeys(hints))[:MOST_HINTS]
    free = [(place, axis) for place, shape in enumerate(shapes) for axis in range(1, len(shape)) if shape[axis] is None]
    seen: set[tuple[int, ...]] = set()

    def filled(sizes: Sequence[int]) -> list[Sizes] | None:
        key = tuple(sizes)
        if key in seen:
            return None
        seen.add(key)
        made = [[size or 1 for size in shape] for shape in shapes]
        for (place, axis), size in zip(free, sizes, strict=True):
            made[place][axis] = size
        too_large = any(math.prod(shape[1:]) > MOST_ELEMENTS for shape in made)
        return None if too_large else [tuple(shape) for shape in made]

    for sizes in _ways(free, hints):
        found = filled(sizes)
        if found is not None:
            yield found


def _ways(free: list[tuple[int, int]], hints: list[int]) -> Iterator[list[int]]:
    for size in (*COMMON, *hints, *LESS_COMMON):
        yield [size] * len(free)
    places = sorted({place for place, _ in free})
    if len(places) > 1:
        for size, (mine, others) in itertools.product((32, 128), RATIOS):
            for one in places:
                yield [size * (mine if place == one else others) for place, _ in free]
        for size, more in itertools.product((32, 16), (1, -1)):
            for one in places:
                yield [size + more * (place == one) for place, _ in free]
        for size, hint in itertools.product((32, *hints), hints):
            for one in places:
                yield [hint if place == one else size for place, _ in free]
    if len(free) > len(places):
        for size, hint in itertools.product((32, *hints), hints):
            for one in range(len(free)):
                yield [hint if at == one else size for at in range(len(free))]


def hints_of(model: keras.Model, shapes: Iterable[Shape]) -> list[int]:
    """Return sizes that free ones may have to agree with: those of inputs and of weights."""
    own = [size for shape in shapes for size in shape[1:] if size is not None and size > 1]
    weights = [size for variable in model.variables for size in variable.shape[:-1] if 1 < size <= 65536]
    return list(dict.fromkeys([*own, *weights]))


def find_sizes(
    shapes: Sequence[Shape], run: Callable[[list[Sizes]], Sequence[Any]], hints: Iterable[int] = ()
) -> list[Sizes]:
    """Return the first shapes with which a model runs, and gives something.

    Args:
        shapes: Of all inputs; the batch is known.
        run: Runs the model on inputs of given shapes and returns its outputs; it raises what it likes.
        hints: Sizes that may be meant (see `candidates`).

    Raises:
        NoSizeFits: If it runs with none.

    Example:

    >>> def run(shapes):
    ...     return [np.ones(max(0, shapes[0][1] - 1000))]
    >>> find_sizes([(2, None, 4)], run)
    [(2, 1024, 4)]
    """
    if not is_free(shapes):
        return [tuple(size or 1 for size in shape) for shape in shapes]
    first: tuple[list[Sizes], BaseException] | None = None
    empty: list[Sizes] | None = None
    tried = 0
    for made in candidates(shapes, hints):
        tried += 1
        if empty is not None and tried > len(COMMON):
            break
        try:
            outputs = [np.asarray(output) for output in run(made)]
        except Exception as error:  # whatever the model raises on a size that it can't take
            pass_on_full(error)
            first = first or (made, error)
            continue
        if all(_holds_something(output) for output in outputs):
            return made
        empty = empty or (made if all(output.size for output in outputs) else None)
    if empty is not None:  # as of a model that gives NaN whatever it is given
        return empty
    shapes_tried, cause = first or ([], ValueError("its outputs hold nothing"))
    raise NoSizeFits(shapes_tried, tried, cause)


def _holds_something(output: np.ndarray) -> bool:
    """Return whether an output has entries, and not NaN or infinity alone, as a mean over nothing is."""
    if not output.size:
        return False
    return output.dtype.kind != "f" or bool(np.isfinite(output).any())
