"""Intervals against their formulas, against scikit-learn on drawn samples, and by how often they hold the truth."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from tfcompress.evaluation.intervals import of_difference, of_f1_differences, of_mean
from tfcompress.evaluation.scoring import score

Z = 1.959963984540054


@pytest.mark.parametrize(("right", "count"), [(0, 1), (974, 1000), (7, 7), (3, 40)])
def test_a_share_has_wilsons_interval(right, count):
    p = right / count
    centre = (p + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z * math.sqrt(p * (1 - p) / count + Z**2 / (4 * count**2)) / (1 + Z**2 / count)
    assert of_mean(np.arange(count) < right) == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_other_means_have_students_interval():
    values = np.random.default_rng(0).exponential(size=30)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert of_mean(values) == pytest.approx((expected.low, expected.high))
    assert of_mean(np.array([0.1, 8.0]))[0] == 0  # no mean of squares is less
    assert of_mean(np.array([0.5])) is None
    other = values + np.linspace(-0.1, 0.3, 30)
    expected = stats.ttest_rel(other, values).confidence_interval()
    assert of_difference(other, values) == pytest.approx((expected.low, expected.high))
    assert of_difference(other, values[:9]) is None


def test_a_paired_difference_has_bonetts_and_prices_interval():
    ours, theirs = (np.array(part, bool) for part in ([1] * 90 + [0] * 10, [1] * 84 + [0] * 8 + [1] * 8))
    up, down = 7 / 102, 9 / 102  # 6 that we alone have right, 8 that they alone have
    half = Z * math.sqrt((up + down - (up - down) ** 2) / 102)
    low, high = of_difference(ours, theirs)
    assert (low, high) == pytest.approx((up - down - half, up - down + half))
    assert of_difference(theirs, ours) == pytest.approx((-high, -low))
    low, high = of_difference(ours, ours)
    assert low < 0 < high == pytest.approx(0.027, abs=1e-3)


def test_the_interval_holds_the_true_difference_as_often_as_it_says():
    random = np.random.default_rng(0)
    shares = {(1, 1): 0.9, (1, 0): 0.03, (0, 1): 0.05, (0, 0): 0.02}
    held = 0
    for _ in range(1000):
        drawn = random.choice(4, size=200, p=list(shares.values()))
        ours, theirs = np.array(list(shares), bool)[drawn].T
        low, high = of_difference(ours, theirs)
        held += low <= -0.02 <= high
    assert 935 <= held <= 980


def test_intervals_of_f1_are_those_of_drawn_samples():
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 300)
    ours, theirs = (np.where(random.random(300) < p, labels, random.integers(0, 3, 300)) for p in (0.7, 0.85))
    drawn = []
    for _ in range(400):
        at = random.integers(0, 300, 300)
        one, other = (sk.f1_score(labels[at], said[at], average=None) for said in (ours, theirs))
        drawn.append(one - other)
    expected = np.percentile(drawn, [2.5, 97.5], axis=0).T
    assert np.array(of_f1_differences(labels, ours, theirs, 3)) == pytest.approx(expected, abs=0.025)
    assert of_f1_differences(labels, ours, ours, 3) == [(0, 0)] * 3


def test_pixels_of_one_picture_are_one_sample():
    random = np.random.default_rng(2)
    labels = random.integers(0, 3, (12, 8, 8))
    scores = np.eye(3)[labels]
    scores[:3] = 0  # class 0 everywhere
    found = score(labels, scores)
    shares = (scores.argmax(-1) == labels).reshape(12, -1).mean(1)
    assert found.judged.values == pytest.approx(shares)
    assert found.judged.labels is None
    assert found.interval == (of_mean(shares)[0], 1)
    assert found.interval[1] - found.interval[0] > 0.2  # 64 times as many samples would make it an eighth of that
    assert score(labels[:1], scores[:1]).interval is None
