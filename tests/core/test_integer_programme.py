"""The integer programme gives the best choices there are, and says so when there are none."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest
import scipy.optimize

from tfcompress.core import integer_programme
from tfcompress.core.integer_programme import TooTight, solve


def best(objective, limits):
    """Return the least sum of objectives, by trying all choices; `None`: none keep within the limits."""
    sums = []
    for places in itertools.product(*(range(len(row)) for row in objective)):
        if all(sum(row[at] for row, at in zip(rows, places, strict=True)) <= most for rows, most in limits):
            sums.append(sum(row[at] for row, at in zip(objective, places, strict=True)))
    return min(sums, default=None)


def total(rows, places):
    return sum(row[at] for row, at in zip(rows, places, strict=True))


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e9])
def test_it_is_as_good_as_trying_all(unit):
    generator = np.random.default_rng(3)
    for _ in range(12):
        objective = (generator.random((5, 4)) ** 4 * unit).tolist()
        costs = [generator.integers(1, 2000, (5, 4)).tolist() for _ in range(2)]
        limits = [(rows, float(generator.integers(1500, 6000))) for rows in costs]
        expected = best(objective, limits)
        if expected is None:
            continue
        found = solve(objective, limits)
        assert found.value == pytest.approx(expected, rel=1e-9)
        assert found.gap == 0
        assert all(total(rows, found.places) <= most for rows, most in limits)


def test_sixty_layers_of_eighteen_choices_are_proven_best():
    generator = np.random.default_rng(0)
    sizes = generator.integers(100, 100_000, 60)
    widths = np.linspace(4, 0.2, 18)
    costs = (sizes[:, None] * widths * generator.uniform(0.9, 1.1, (60, 18))).round()
    objective = generator.random((60, 1)) * np.exp(np.linspace(-8, 0, 18)) * generator.uniform(0.5, 2, (60, 18))
    most = float(costs.min(axis=1).sum() + 0.2 * (costs.max(axis=1) - costs.min(axis=1)).sum())
    found = solve(objective, [(costs, most)])
    assert found.gap == 0
    # Lagrange's bound: no choices within the limit have less than the best of all with a price on the costs.
    bound = max(
        float((objective + price * costs).min(axis=1).sum() - price * most) for price in np.logspace(-9, -3, 200)
    )
    assert bound <= found.value <= bound + objective.max() / 10


def test_of_equals_the_first_is_taken_and_rows_differ_in_length():
    assert solve([[1, 1], [2]], [([[3, 3], [4]], 7)]).places == (0, 0)


def test_limits_that_nothing_keeps_within_are_refused_with_the_least():
    with pytest.raises(TooTight) as caught:
        solve([[0, 1]], [([[10, 8]], 5), ([[1, 2]], 9)])
    assert caught.value.least == (8, 1)
    # Each limit by itself can be kept, both together can't.
    with pytest.raises(TooTight):
        solve([[0, 0]], [([[10, 1]], 5), ([[1, 10]], 5)])


SHORT = [[0, 1], [0, 5]], [([[10, 2], [10, 2]], 12)]


@pytest.mark.parametrize(("bound", "gap"), [(None, 1.0), (float("nan"), 1.0), (-float("inf"), 1.0), (0.5, 0.5)])
def test_out_of_time_an_answer_is_not_called_the_best(monkeypatch, bound, gap):
    """The solver has found that of 1, of which the second solve can't say more."""
    milp, units = scipy.optimize.milp, []

    def stopped(objective, **how):
        made = milp(objective, **how)
        units.append(made.fun)
        made.status, made.mip_dual_bound = 1, None if bound is None else bound * made.fun
        return made

    monkeypatch.setattr(scipy.optimize, "milp", stopped)
    found = solve(*SHORT)
    assert (found.places, found.value) == ((1, 0), 1)
    assert found.gap == pytest.approx(gap)
    assert len(units) == 2


@pytest.mark.parametrize("error", [TooTight([1.0]), RuntimeError("no answer in time")])
def test_the_first_answer_is_kept_where_the_second_solve_finds_none(monkeypatch, error):
    answers = [([1, 0], 0.2)]

    def solved(*args):
        if not answers:
            raise error
        return answers.pop()

    monkeypatch.setattr(integer_programme, "_solved", solved)
    found = solve(*SHORT)
    assert (found.places, found.gap, answers) == ((1, 0), 0.2, [])


def test_what_the_solver_prints_is_held_back(monkeypatch, capfd):
    milp, printed = scipy.optimize.milp, ctypes.CDLL(None).printf

    def printing(*args, **how):
        printed(b"a line of C\n")
        return milp(*args, **how)

    monkeypatch.setattr(scipy.optimize, "milp", printing)
    print("before")
    solve(*SHORT)
    print("behind")
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr().out == "before\nbehind\n"
