"""Ranges that are sought in a histogram, beside numpy's percentiles and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.check import in_turn
from tests.quantization.distributions import NAMES, calibrated, error, samples
from tfcompress.quantization.quantize_config import ActivationSpec
from tfcompress.quantization.ranges import observers
from tfcompress.quantization.ranges.histograms import BINS, SIDE, counted, divergence


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


def cuts(x):
    """The same values in one batch, one at a time, with a short batch at the end, turned round and shuffled."""
    yield [x]
    yield np.split(x, len(x))
    yield np.split(x, range(300, len(x), 300))
    yield np.split(x[::-1], 4)
    yield np.split(np.random.default_rng(0).permutation(x), 8)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("kind", ["minmax", "percentile", "mse", "entropy"])
def test_one_set_of_data_has_one_range_however_it_is_cut_and_ordered(kind, symmetric):
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=500) * scale + shift for scale, shift in ((1, 0), (0.1, 3), (50, -2), (0.01, 0))]
    spec = ActivationSpec(range=kind, symmetric=symmetric, percentile=99)
    for x in (np.concatenate(batches), np.sort(np.abs(rng.lognormal(0, 2, 2000)))):
        assert len({calibrated(spec, *parts).range() for parts in cuts(x.astype("float32"))}) == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_merging_loses_no_value_and_moves_none(order):
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=400) * scale + shift for scale, shift in ((1, 0), (1e-6, 0), (5000, -2), (0, 0))]
    estimator = calibrated(ActivationSpec(range="mse"), *(batches[i] for i in order))
    everything = np.concatenate(batches)
    assert (estimator.low, estimator.high) == (everything.min(), everything.max())
    np.testing.assert_array_equal(estimator.counts, counted(everything))


def test_bins_reach_from_the_smallest_numbers_to_the_largest():
    for x in ([3.4e38, -3.4e38], [1e-45, 0.0], [-1e-45], [0.0], [2.0**-100], [1.0, -(2.0**70)]):
        counts = counted(np.float32(x))
        assert len(counts) == 2 * SIDE and counts.sum() == len(x)
    estimator = calibrated(ActivationSpec(range="mse"), np.float32([1.6e38, -1.6e38]), np.float32([1e-30]))
    assert estimator.counts.sum() == 3 and np.isfinite(estimator.range()).all()


def test_the_largest_value_counts_where_it_is_the_edge_of_a_bin():
    for x in (np.array([0.0, 1.0, 1.0, 1.0]), np.array([-4.0, 0.0, 4.0]), np.array([2.0, 4.0])):
        estimator = calibrated(ActivationSpec(range="percentile", percentile=100), x)
        edges, counts = estimator._filled()
        assert counts.sum() == len(x) and (np.diff(edges) > 0).all() and (edges[0], edges[-1]) == (x.min(), x.max())
        assert estimator.range() == pytest.approx((min(x.min(), 0), x.max()))


@pytest.mark.parametrize(("name", "bits"), in_turn(NAMES, [2, 4, 8]))
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
    estimator = observers.make(ActivationSpec(range="percentile"))
    rng = np.random.default_rng(0)
    for step in range(1000):
        x = rng.normal(size=20) * (1 + step)
        estimator.update(x.min(), x.max(), counted(x))
    assert estimator.counts.size == 2 * SIDE
