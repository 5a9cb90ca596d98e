import itertools

import numpy as np
import pytest

from tfcompress.quantization import ranges
from tfcompress.quantization.config import ActivationSpec
from tfcompress.quantization.numerics import nudge

KINDS = ("minmax", "ema", "percentile", "mse", "entropy")


def calibrated(spec, *batches):
    estimator = ranges.make(spec)
    for batch in batches:
        low, high = float(batch.min()), float(batch.max())
        counts = np.histogram(batch, ranges.BINS, (low, high))[0] if estimator.needs_histogram else None
        estimator.update(low, high, counts)
    return estimator


def error(x, low, high, bits, symmetric=False):
    """Mean squared error of rounding and saturation, written anew."""
    if symmetric:
        levels = 2 ** (bits - 1) - 1
        return np.mean((np.clip(np.rint(x / high * levels), -levels, levels) * high / levels - x) ** 2)
    low, high, scale, _ = map(float, nudge(low, high, bits))
    return np.mean((np.rint(np.clip(x, low, high) / scale) * scale - x) ** 2)


def samples(name, size=20000):
    rng = np.random.default_rng(7)
    return {
        "normal": lambda: rng.normal(size=size),
        "shifted": lambda: rng.normal(size=size) + 1.5,
        "relu": lambda: np.maximum(rng.normal(size=size), 0),
        "negative": lambda: -np.abs(rng.standard_t(4, size=size)),
        "heavy": lambda: rng.standard_t(3, size=size),
        "heavy relu": lambda: np.maximum(rng.standard_t(3, size=size), 0),
        "uniform": lambda: rng.uniform(-1, 2, size=size),
    }[name]()


NAMES = ("normal", "shifted", "relu", "negative", "heavy", "heavy relu", "uniform")


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_range_holds_zero_and_stays_within_the_extremes(kind, name, symmetric):
    x = samples(name)
    low, high = calibrated(ActivationSpec(range=kind, symmetric=symmetric), *np.split(x, 10)).range()
    assert low <= 0 <= high and low < high
    if symmetric:
        assert low == -high and high <= np.abs(x).max() * 1.0001
    else:
        assert low >= min(x.min(), 0) * 1.0001 and high <= max(x.max(), 0) * 1.0001


def test_minmax_is_the_extremes_of_all_batches():
    estimator = ranges.make(ActivationSpec(range="minmax"))
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
    estimator = ranges.make(ActivationSpec(range="ema", momentum=momentum))
    for t, (low, high) in enumerate(ends, 1):
        estimator.update(low, high)
        weights = momentum ** np.arange(t - 1, -1, -1.0)
        assert estimator.range() == pytest.approx(tuple(weights @ ends[:t] / weights.sum()))


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
    assert (low, high) == pytest.approx(tuple(expected), abs=2.5 * (x.max() - x.min()) / ranges.BINS)


@pytest.mark.parametrize("name", ["normal", "heavy", "relu"])
def test_a_symmetric_percentile_is_that_of_the_absolute_values(name):
    x = samples(name)
    _, high = calibrated(ActivationSpec(range="percentile", percentile=99, symmetric=True), *np.split(x, 4)).range()
    assert high == pytest.approx(np.percentile(np.abs(x), 99), abs=2.5 * (x.max() - x.min()) / ranges.BINS)


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
    counts = np.random.default_rng(0).integers(0, 9, ranges.BINS)
    for _ in range(3):
        estimator.update(-1.0, 1.0, counts)
    np.testing.assert_allclose(estimator.counts.reshape(ranges.BINS, -1).sum(axis=1), 3 * counts, atol=1e-8)


def test_a_batch_of_one_value_falls_into_its_bin():
    estimator = ranges.make(ActivationSpec(range="mse"))
    ones = np.zeros(ranges.BINS)
    ones[0] = 10
    estimator.update(2.0, 2.0, ones)
    assert estimator.range() == (0, 2)
    estimator.update(0.0, 4.0, np.ones(ranges.BINS))
    assert estimator.counts.sum() == pytest.approx(ranges.BINS + 10)
    middle = len(estimator.counts) // 2
    assert estimator.counts[middle - 1 : middle + 1].sum() == pytest.approx(10 + 2 / ranges.FINER)
    estimator.update(4.0, 4.0, ones)
    assert estimator.counts[-1] > 10 and estimator.counts.sum() == pytest.approx(ranges.BINS + 20)


@pytest.mark.parametrize("kind", KINDS)
def test_one_constant_value_has_the_range_from_zero(kind):
    assert calibrated(ActivationSpec(range=kind), np.full(10, 3.0)).range() == pytest.approx((0, 3))
    assert calibrated(ActivationSpec(range=kind), np.full(10, -3.0)).range() == pytest.approx((-3, 0))
    assert calibrated(ActivationSpec(range=kind), np.zeros(10)).range() == (0, 0)


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
    counts, edges = np.histogram(x, ranges.BINS, (min(x.min(), 0), max(x.max(), 0)))
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
    counts, edges = np.histogram(x, ranges.BINS, (x.min(), x.max()))
    for start, stop in ((0, 2048), (700, 1500), (900, 1400)):
        assert ranges.divergence(counts.astype(float), start, stop, 256) == pytest.approx(
            kullback_leibler(x, edges[start], edges[stop], 256)
        )
    # A grid as fine as the bins loses nothing but the ten-thousandth.
    assert ranges.divergence(np.arange(1.0, 257), 0, 256, 256) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_known_before_the_first_batch(kind):
    with pytest.raises(ValueError, match="not calibrated"):
        ranges.make(ActivationSpec(range=kind)).range()


def test_the_memory_is_the_same_after_a_thousand_batches():
    estimator = ranges.make(ActivationSpec(range="percentile"))
    rng = np.random.default_rng(0)
    for step in range(1000):
        estimator.update(-rng.random(), rng.random() + step / 1000, rng.integers(0, 5, ranges.BINS))
    assert estimator.counts.size == ranges.FINER * ranges.BINS


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
    estimator = ranges.make(ActivationSpec(range="mse"))
    with pytest.raises(ValueError, match=message):
        estimator.update(*arguments)
    with pytest.raises(ValueError, match="not calibrated"):
        estimator.range()


def test_a_dynamic_range_is_not_calibrated():
    with pytest.raises(ValueError, match="dynamic"):
        ranges.make(ActivationSpec(dynamic=True, symmetric=True))


@pytest.mark.parametrize("axis", [None, 0, -1, (1, 2)])
def test_a_weights_limit_is_its_channels_largest(axis):
    x = np.random.default_rng(0).normal(size=(4, 3, 5)).astype("float32")
    limit = ranges.weight_limit(x, axis)
    axes = () if axis is None else tuple(a % 3 for a in ((axis,) if isinstance(axis, int) else axis))
    np.testing.assert_array_equal(limit, np.abs(x).max(axis=tuple(a for a in range(3) if a not in axes)))
    assert limit.dtype == "float32"


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_weights_limit_of_least_error_comes_close_to_brute_force(bits):
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(size=3000), rng.standard_t(3, size=3000), rng.uniform(-1, 1, 3000), np.zeros(3000)], 1)
    limits = ranges.weight_limit(x, 1, bits, "mse")
    assert limits.shape == (4,) and limits[3] == 0 and (limits <= np.abs(x).max(axis=0) * 1.000001).all()
    for channel, limit in zip(x.T[:3], limits, strict=False):
        largest = np.abs(channel).max()
        best = min(error(channel, -r, r, bits, True) for r in np.geomspace(0.005, 1, 500) * largest)
        assert error(channel, -limit, limit, bits, True) < 1.02 * best


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([1.0], None, 1), "bits"),
        (([1.0], None, 8, "entropy"), "range"),
        (([1.0], 1), "axis"),
        (([],), "at least one value"),
        (([np.nan],), "finite"),
    ],
)
def test_bad_weights_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ranges.weight_limit(*arguments)
