"""One choice for each of several: the cheapest that keep within limits, as an integer programme."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Sequence

import numpy as np

from tfcompress.core.quiet_output import quiet

SECONDS = 10.0
"""That the solver may take."""

FINE = 1e4
"""In how many units the objective is counted the second time."""

GAP = 1e-9
"""Of the objective: what a proof of the best may leave open for the rounding of floats."""

Rows = Sequence[Sequence[float]]
"""A row for each thing that gets a choice: a number for each of its choices."""


class TooTight(ValueError):
    """No choices keep within the limits.

    Attributes:
        least: The least that each limit could be, by itself.
    """

    def __init__(self, least: Sequence[float]):
        self.least = tuple(least)
        said = ", ".join(f"{x:,.6g}" for x in least)
        super().__init__(
            f"Expected limits that some choices keep within. Received: limits of which the least is {said}."
        )


@dataclasses.dataclass(frozen=True)
class Solution:
    """The best choices.

    Attributes:
        places: Of the choice of each row.
        value: The sum of their objectives.
        gap: How much of it a better one could save at most, as a share; 0: none, the best is proven.
        seconds: That it took.
    """

    places: tuple[int, ...]
    value: float
    gap: float
    seconds: float


def solve(objective: Rows, limits: Sequence[tuple[Rows, float]], seconds: float = SECONDS) -> Solution:
    """Return one place for each row with the least sum of objectives, whose sums of costs keep within limits.

    Numbers are divided by the largest of their kind, without which the solver calls poor answers the best; its status,
    its gap and the answer itself are checked.

    Args:
        objective: At least 0.
        limits: Costs like the objective, at least 0, each with the most that their sum may be.
        seconds: That the solver may take.

    Raises:
        TooTight: No choices keep within the limits.
        RuntimeError: The solver found no answer in time.

    Example:

    >>> solve([[0, 1], [0, 5]], [([[10, 2], [10, 2]], 12)]).places
    (1, 0)
    """
    begun = time.perf_counter()
    target = [np.asarray(row, float) for row in objective]
    costs = [[np.asarray(row, float) for row in rows] for rows, _ in limits]
    most = [float(limit) for _, limit in limits]
    least = [sum(float(row.min()) for row in rows) for rows in costs]
    if any(low > high for low, high in zip(least, most, strict=True)):
        raise TooTight(least)
    kept = [_worth(target[i], [rows[i] for rows in costs]) for i in range(len(target))]
    own = [x[k] for x, k in zip(target, kept, strict=True)]
    limited = [
        ([row[k] for row, k in zip(rows, kept, strict=True)], high)
        for rows, high in zip(costs, most, strict=True)
        if np.isfinite(high)
    ]
    unit = max(float(row.max()) for row in own) or 1.0
    places, gap = _solved(own, limited, seconds, unit)
    if gap:  # the solver leaves open what is small beside the largest: once more, beside what was found
        value = _total(own, places)
        left = max(seconds - (time.perf_counter() - begun), 1.0)
        with contextlib.suppress(TooTight, RuntimeError):  # the first answer keeps within the limits
            again, other = _solved(own, limited, left, value / FINE)
            if (_total(own, again), other) < (value, gap) and all(_keeps(rows, again, high) for rows, high in limited):
                places, gap = again, other
    chosen = tuple(int(k[place]) for k, place in zip(kept, places, strict=True))
    for rows, high in zip(costs, most, strict=True):
        if not _keeps(rows, chosen, high):
            total = _total(rows, chosen)
            raise RuntimeError(f"Expected choices within the limit {high:,.6g}. Received: {total:,.6g} of the solver.")
    return Solution(chosen, _total(target, chosen), gap, time.perf_counter() - begun)


def _worth(target: np.ndarray, costs: Sequence[np.ndarray]) -> np.ndarray:
    """Return the places of the choices of a row than which no other is as good in all and better, or earlier."""
    table = np.stack([target, *costs])
    kept = []
    for at in range(table.shape[1]):
        no_worse = (table <= table[:, at : at + 1]).all(axis=0)
        better = (table < table[:, at : at + 1]).any(axis=0)
        if not (no_worse & (better | (np.arange(table.shape[1]) < at))).any():
            kept.append(at)
    return np.array(kept)


def _total(rows: Sequence[np.ndarray], places: Sequence[int]) -> float:
    return sum(float(row[at]) for row, at in zip(rows, places, strict=True))


def _keeps(rows: Sequence[np.ndarray], places: Sequence[int], high: float) -> bool:
    return _total(rows, places) <= high + 1e-9 * max(abs(high), 1)


def _solved(
    target: Sequence[np.ndarray],
    limits: Sequence[tuple[Sequence[np.ndarray], float]],
    seconds: float,
    unit: float,
) -> tuple[list[int], float]:
    """Return the place of each row's choice, and the gap that is left; the objective is counted in units."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_matrix

    sizes = [len(row) for row in target]
    rows = np.repeat(np.arange(len(sizes)), sizes)
    flat = np.concatenate(target)
    one_each = csr_matrix((np.ones(len(rows)), (rows, np.arange(len(rows)))))
    constraints = [LinearConstraint(one_each, 1, 1)]
    for table, high in limits:
        own = np.concatenate(table)
        largest = float(own.max()) or 1.0
        constraints.append(LinearConstraint(csr_matrix(own / largest), -np.inf, high / largest))
    how = {"mip_rel_gap": 0, "time_limit": seconds}
    with quiet(output=True):  # HiGHS prints a line of its own now and then
        made = milp(flat / unit, integrality=1, bounds=Bounds(0, 1), constraints=constraints, options=how)
    if made.status == 2:
        raise TooTight([sum(float(row.min()) for row in table) for table, _ in limits])
    if made.x is None:
        raise RuntimeError(
            f"Expected the choices of {len(sizes)} layers within {seconds:g} seconds. Received: none ({made.message}). "
            "Take fewer choices."
        )
    starts = np.cumsum([0, *sizes])
    places = [int(np.argmax(made.x[a:b])) for a, b in itertools.pairwise(starts)]
    value = _total(target, places) / unit
    least = sum(float(row.min()) for row in target) / unit  # without limits
    bound = value if made.status == 0 else least
    if getattr(made, "mip_dual_bound", None) is not None:
        bound = max(least, float(made.mip_dual_bound))
    gap = max(value - bound, 0.0)
    proven = made.status == 0 and gap <= max(GAP, GAP * value) + 1e-7 * value
    return places, 0.0 if proven else gap / max(value, 1e-30)
