"""Estimators of ranges, whichever it is."""

from __future__ import annotations

import numpy as np
import pytest

from tests.quantization.distributions import KINDS, NAMES, calibrated, samples
from tfcompress.quantization.quantize_config import ActivationSpec
from tfcompress.quantization.ranges import observers


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [*KINDS, "learned"])
def test_every_range_holds_zero_and_stays_within_the_extremes(kind, name, symmetric):
    x = samples(name)
    low, high = calibrated(ActivationSpec(range=kind, symmetric=symmetric), *np.split(x, 10)).range()
    assert low <= 0 <= high and low < high
    if symmetric:
        assert low == -high and high <= np.abs(x).max() * 1.0001
    else:
        assert low >= min(x.min(), 0) * 1.0001 and high <= max(x.max(), 0) * 1.0001


def test_minmax_is_the_extremes_of_all_batches():
    estimator = observers.make(ActivationSpec(range="minmax"))
    for low, high in ((0.5, 1), (0.25, 3), (1, 2)):
        estimator.update(low, high)
    assert estimator.range() == (0, 3)
    estimator.update(-1, 0)
    assert estimator.range() == (-1, 3)
    assert not estimator.needs_histogram


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
def test_the_average_weighs_each_batch_by_its_age(momentum):
    rng = np.random.default_rng(0)
    ends = np.sort(rng.normal(size=(7, 2)) * 0.1 + [-1, 1], axis=1)
    estimator = observers.make(ActivationSpec(range="ema", momentum=momentum))
    for t, (low, high) in enumerate(ends, 1):
        estimator.update(low, high)
        weights = momentum ** np.arange(t - 1, -1, -1.0)
        assert estimator.range() == pytest.approx(tuple(weights @ ends[:t] / weights.sum()))


@pytest.mark.parametrize("kind", KINDS)
def test_one_constant_value_has_the_range_from_zero(kind):
    assert calibrated(ActivationSpec(range=kind), np.full(10, 3.0)).range() == pytest.approx((0, 3))
    assert calibrated(ActivationSpec(range=kind), np.full(10, -3.0)).range() == pytest.approx((-3, 0))
    assert calibrated(ActivationSpec(range=kind), np.zeros(10)).range() == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_known_before_the_first_batch(kind):
    with pytest.raises(ValueError, match="not calibrated"):
        observers.make(ActivationSpec(range=kind)).range()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((np.nan, 1.0, np.ones(4)), "finite"),
        ((0.0, np.inf, np.ones(4)), "finite"),
        ((1.0, 0.0, np.ones(4)), "low <= high"),
        ((0.0, 1.0), "needs a histogram"),
        ((0.0, 1.0, np.zeros(4)), "not all 0"),
        ((0.0, 1.0, -np.ones(4)), "at least 0"),
        ((0.0, 1.0, np.ones((2, 2))), "vector"),
        ((0.0, 1.0, np.full(4, np.nan)), "vector"),
    ],
)
def test_bad_statistics_are_refused_and_change_nothing(arguments, message):
    estimator = observers.make(ActivationSpec(range="mse"))
    with pytest.raises(ValueError, match=message):
        estimator.update(*arguments)
    with pytest.raises(ValueError, match="not calibrated"):
        estimator.range()


def test_a_dynamic_range_is_not_calibrated():
    with pytest.raises(ValueError, match="dynamic"):
        observers.make(ActivationSpec(dynamic=True, symmetric=True))
