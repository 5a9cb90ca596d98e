"""Which tries aren't beaten: the Pareto front of several objectives, all of which are to be small."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from tfcompress.search.tries import TriedFile

OBJECTIVES = ("drop", "size", "zip", "latency", "arena")
"""What can be made small: by how much the metric drops, bytes, bytes deflated, milliseconds, bytes of RAM."""

Key = TypeVar("Key")


def objective_of(file: TriedFile, objectives: Sequence[str]) -> tuple[float, ...] | None:
    """Return what a file is worth in each objective; `None`: one isn't known, or judging was stopped as too bad."""
    said = file.selection
    if said is None or (said.stopped and said.verdict == "broken"):
        return None
    values = tuple(said.drop if one == "drop" else file.cost(one) for one in objectives)
    return values if all(map(math.isfinite, values)) else None


def pareto_front(values: Mapping[Key, Sequence[float] | None]) -> list[Key]:
    """Return the keys of values that no other is as good as in all objectives, and better in one.

    >>> pareto_front({"a": (0, 9), "b": (1, 5), "c": (1, 6), "d": None})
    ['a', 'b']
    """
    known = {key: tuple(value) for key, value in values.items() if value is not None}
    return [
        key
        for key, one in known.items()
        if not any(other != one and all(a <= b for a, b in zip(other, one, strict=True)) for other in known.values())
    ]
