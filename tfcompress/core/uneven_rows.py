"""Several inputs with different numbers of rows, as the nodes and the edges of a graph: one whole, never cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np


def is_uneven(arrays: Iterable[Any]) -> bool:
    """Return whether arrays have different numbers of rows: then these are no samples, and all belong together.

    >>> is_uneven([np.zeros((10, 3)), np.zeros((17, 2))]), is_uneven([np.zeros((4, 3)), np.zeros(4), np.zeros(())])
    (True, False)
    """
    return len({np.shape(array)[0] for array in arrays if np.shape(array)}) > 1


def fixes_rows(shapes: Iterable[Sequence[int | None]]) -> bool:
    """Return whether inputs of these shapes take different numbers of rows, whatever they are given.

    >>> fixes_rows([(10, 3), (17, 2)]), fixes_rows([(None, 3), (4, 2)])
    (True, False)
    """
    return len({shape[0] for shape in shapes if shape and shape[0] is not None}) > 1


def cut(named: Mapping[str, np.ndarray], size: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield batches of at most so many samples; of a whole, all at once.

    >>> [batch["x"].shape for batch in cut({"x": np.zeros((50, 4))}, 32)]
    [(32, 4), (18, 4)]
    """
    arrays = [array for array in named.values() if array.ndim]
    if is_uneven(arrays) or not arrays:
        yield dict(named)
        return
    for start in range(0, len(arrays[0]), size):
        yield {name: value[start : start + size] if value.ndim else value for name, value in named.items()}


def check_rows(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int | None]], what: str) -> None:
    """Raise ValueError if a whole has other numbers of rows than inputs that fix them.

    Args:
        arrays: By input name.
        shapes: Of the inputs, by name; `None`: free.
        what: What takes them, for the message.
    """
    fixed = {name: shape[0] for name, shape in shapes.items() if shape and shape[0] is not None}
    rows = {name: len(arrays[name]) for name in fixed}
    if rows != fixed and (is_uneven(arrays.values()) or fixes_rows(shapes.values())):
        if not fixes_rows(shapes.values()):
            raise ValueError(
                f"Expected as many samples for each input of {what}, which takes {next(iter(fixed.values()))} at once. "
                f"Received: {rows} rows."
            )
        raise ValueError(
            f"Expected as many rows of each input as {what} takes, {fixed}. Received: {rows}. Pad what is shorter, "
            "or make it for other sizes."
        )
