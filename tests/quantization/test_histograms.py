"""Ranges that are sought in a histogram, beside numpy's percentiles and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.quantization.distributions import NAMES, calibrated, error, samples
from tfcompress.quantization import ranges
from tfcompress.quantization.config import ActivationSpec
from tfcompress.quantization.histograms import BINS, FINER, divergence


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
def test_a_percentile_is_numpys(name, percentile):
    x = samples(name)
    low, high = calibrated(ActivationSpec(range="percentile", percentile=percentile), *np.split(x, 8)).range()
    left = 100 - percentile
    if x.min() < 0 < x.max():
        expected = np.percentile(x, [left / 2, 100 - left / 2])
    elif x.min() >= 0:
        expected = 0, np.percentile(x, percentile)
    else:
        expected = np.percentile(x, left), 0
    # A bin, and a little for the batches that were put into others.
    assert (low, high) == pytest.approx(tuple(expected), abs=2.5 * (x.max() - x.min()) / BINS)


@pytest.mark.parametrize("name", ["normal", "heavy", "relu"])
def test_a_symmetric_percentile_is_that_of_the_absolute_values(name):
    x = samples(name)
    _, high = calibrated(ActivationSpec(range="percentile", percentile=99, symmetric=True), *np.split(x, 4)).range()
    assert high == pytest.approx(np.percentile(np.abs(x), 99), abs=2.5 * (x.max() - x.min()) / BINS)


def test_all_of_the_values_are_the_extremes():
    x = samples("heavy")
    low, high = calibrated(ActivationSpec(range="percentile", percentile=100), *np.split(x, 8)).range()
    assert (low, high) == pytest.approx((x.min(), x.max()), rel=1e-6)


def test_a_tensor_of_nearly_nothing_but_zeros_keeps_its_few_values():
    x = np.zeros(100000)
    x[:5] = [1, 2, 3, 4, 5]
    assert calibrated(ActivationSpec(range="percentile", percentile=99.99), x).range() == pytest.approx((0, 5))


def test_merging_loses_no_value_and_is_right_whatever_the_order():
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=4000) * scale + shift for scale, shift in ((1, 0), (0.1, 3), (5, -2), (0.01, 0))]
    everything = np.concatenate(batches)
    for order in itertools.permutations(range(4)):
        estimator = calibrated(ActivationSpec(range="mse"), *(batches[i] for i in order))
        assert estimator.counts.sum() == pytest.approx(everything.size)
        assert (estimator.low, estimator.high) == (everything.min(), everything.max())
        edges = np.linspace(estimator.low, estimator.high, len(estimator.counts) + 1)
        cumulated = np.concatenate([[0], np.cumsum(estimator.counts)]) / everything.size
        exact = np.searchsorted(np.sort(everything), edges) / everything.size
        # The narrow batch has all of its quarter within a few bins: there the distribution is only known to a bin.
        assert np.mean(np.abs(cumulated - exact)) < 2e-4
        assert np.abs(cumulated - exact).max() < 0.25


def test_a_histogram_in_the_same_bins_is_added_as_it_is():
    estimator = ranges.make(ActivationSpec(range="mse"))
    counts = np.random.default_rng(0).integers(0, 9, BINS)
    for _ in range(3):
        estimator.update(-1.0, 1.0, counts)
    np.testing.assert_allclose(estimator.counts.reshape(BINS, -1).sum(axis=1), 3 * counts, atol=1e-8)


def test_a_batch_of_one_value_falls_into_its_bin():
    estimator = ranges.make(ActivationSpec(range="mse"))
    ones = np.zeros(BINS)
    ones[0] = 10
    estimator.update(2.0, 2.0, ones)
    assert estimator.range() == (0, 2)
    estimator.update(0.0, 4.0, np.ones(BINS))
    assert estimator.counts.sum() == pytest.approx(BINS + 10)
    middle = len(estimator.counts) // 2
    assert estimator.counts[middle - 1 : middle + 1].sum() == pytest.approx(10 + 2 / FINER)
    estimator.update(4.0, 4.0, ones)
    assert estimator.counts[-1] > 10 and estimator.counts.sum() == pytest.approx(BINS + 20)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", NAMES)
def test_least_squares_comes_close_to_brute_force(name, bits):
    x = samples(name, 4000)
    low, high = calibrated(ActivationSpec(range="mse", bits=bits), *np.split(x, 4)).range()
    ratios = np.geomspace(0.02, 1, 60)
    lows = ratios * x.min() if x.min() < 0 else [0.0]
    highs = ratios * x.max() if x.max() > 0 else [0.0]
    best = min(error(x, a, b, bits) for a in lows for b in highs)
    assert error(x, low, high, bits) < 1.02 * best


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", ["normal", "heavy", "shifted"])
def test_symmetric_least_squares_comes_close_to_brute_force(name, bits):
    x = samples(name, 4000)
    low, high = calibrated(ActivationSpec(range="mse", bits=bits, symmetric=True), *np.split(x, 4)).range()
    assert low == -high
    best = min(error(x, -r, r, bits, True) for r in np.geomspace(0.02, 1, 300) * np.abs(x).max())
    assert error(x, low, high, bits, True) < 1.02 * best


def test_sixteen_bits_cut_nothing_that_matters():
    x = samples("heavy")
    for kind in ("mse", "entropy"):
        low, high = calibrated(ActivationSpec(range=kind, bits=16, symmetric=True), x).range()
        assert error(x, low, high, 16, True) <= error(x, -np.abs(x).max(), np.abs(x).max(), 16, True) * 1.0001


def kullback_leibler(x, low, high, levels):
    """The divergence that entropy calibration minimizes, in plain loops over 2048 bins."""
    counts, edges = np.histogram(x, BINS, (min(x.min(), 0), max(x.max(), 0)))
    start, stop = (int(np.argmin(np.abs(edges - end))) for end in (low, high))
    wanted = [float(c) for c in counts[start:stop]]
    wanted[0] += counts[:start].sum()
    wanted[-1] += counts[stop:].sum()
    given = [0.0] * len(wanted)
    for level in range(levels):
        bins = [i for i in range(len(wanted)) if i * levels // len(wanted) == level]
        used = [i for i in bins if counts[start + i]]
        for i in used:
            given[i] = sum(counts[start + j] for j in used) / len(used)
    wanted = np.array(wanted) / sum(wanted)
    given = (1 - 1e-4) * np.array(given) / sum(given) + 1e-4 / len(given)
    return sum(p * np.log(p / q) for p, q in zip(wanted, given, strict=True) if p)


@pytest.mark.parametrize("name", ["heavy", "heavy relu", "negative"])
def test_entropy_keeps_more_of_a_heavy_tailed_distribution_than_the_extremes(name):
    x = samples(name, 200000)
    low, high = calibrated(ActivationSpec(range="entropy"), x).range()
    assert high - low < 0.8 * (max(x.max(), 0) - min(x.min(), 0))
    own = kullback_leibler(x, low, high, 256)
    # All values of a ReLU count here, also its many zeros; the search levels those out.
    assert own < 0.99 * kullback_leibler(x, min(x.min(), 0), max(x.max(), 0), 256)


def test_the_divergence_is_that_of_the_loops():
    x = samples("heavy")
    counts, edges = np.histogram(x, BINS, (x.min(), x.max()))
    for start, stop in ((0, 2048), (700, 1500), (900, 1400)):
        assert divergence(counts.astype(float), start, stop, 256) == pytest.approx(
            kullback_leibler(x, edges[start], edges[stop], 256)
        )
    # A grid as fine as the bins loses nothing but the ten-thousandth.
    assert divergence(np.arange(1.0, 257), 0, 256, 256) == pytest.approx(0, abs=1e-4)


def test_the_memory_is_the_same_after_a_thousand_batches():
    estimator = ranges.make(ActivationSpec(range="percentile"))
    rng = np.random.default_rng(0)
    for step in range(1000):
        estimator.update(-rng.random(), rng.random() + step / 1000, rng.integers(0, 5, BINS))
    assert estimator.counts.size == FINER * BINS
