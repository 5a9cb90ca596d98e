"""A test that stops when it likes is wrong no more often than it says."""

import numpy as np
import pytest

from tfcompress.search.sequential import SequentialTest


def differences(random: np.random.Generator, harm: float, gain: float, count: int) -> np.ndarray:
    return np.subtract(
        *(draw < p for draw, p in ((random.random(count), harm), (random.random(count), gain))), dtype=int
    )


def verdict_of(drops: np.ndarray, budget: float, error: float) -> str | None:
    """Return the verdict of a test that looks after each of 20 parts: the capital counts wherever it was highest."""
    test = SequentialTest(budget, error)
    for part in np.array_split(drops, 20):
        if test.update(part):
            break
    return test.verdict


@pytest.mark.parametrize(("harm", "gain"), [(0.02, 0.0), (0.05, 0.03), (0.3, 0.28)])
def test_verdicts_at_the_budget_itself_are_rarer_than_the_error(harm: float, gain: float):
    random = np.random.default_rng(0)
    wrong = [verdict_of(differences(random, harm, gain, 1000), 0.02, 0.1) for _ in range(200)]
    # The drop is the budget: either verdict is wrong, each in a tenth of all runs at most. 3.5 standard deviations.
    most = 0.1 + 3.5 * np.sqrt(0.1 * 0.9 / 200)
    assert wrong.count("holds") / 200 <= most
    assert wrong.count("broken") / 200 <= most


def test_the_interval_holds_whenever_it_is_asked():
    random = np.random.default_rng(1)
    missed = 0
    for _ in range(20):
        test = SequentialTest(0.0, 0.1)
        inside = []
        for part in np.array_split(differences(random, 0.12, 0.02, 400), 4):
            test.update(part)
            low, high = test.interval()
            inside.append(low <= 0.1 <= high)
        missed += not all(inside)
    assert missed / 20 <= 0.2 + 3.5 * np.sqrt(0.2 * 0.8 / 20)


def test_clear_cases_stop_early_and_close_ones_dont():
    random = np.random.default_rng(2)
    assert verdict_of(differences(random, 0.2, 0.0, 1000), 0.01, 0.01) == "broken"
    assert verdict_of(np.zeros(1500), 0.01, 0.01) == "holds"
    assert verdict_of(differences(random, 0.03, 0.02, 1000), 0.01, 0.01) is None


def test_a_verdict_stays():
    test = SequentialTest(0.1)
    assert test.update(np.ones(50)) == "broken"
    assert test.update(np.zeros(5000)) == "broken"


def test_differences_beyond_1_are_refused():
    with pytest.raises(ValueError, match=r"Expected differences within \[-1, 1\]"):
        SequentialTest(0.1).update(np.array([2.0]))
