"""95 % intervals of what is measured on samples, and of differences on the same samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1000

Interval = tuple[float, float]


def mark(interval: Interval, more_is_better: bool = True) -> str:
    """Return whether a difference is "better" or "worse", or "grey": its interval holds 0, so that it may be chance.

    >>> mark((0.1, 0.4)), mark((0.1, 0.4), more_is_better=False), mark((-0.1, 0.4))
    ('better', 'worse', 'grey')
    """
    low, high = interval
    if low <= 0 <= high:
        return "grey"
    return "better" if (low > 0) == more_is_better else "worse"


def of_mean(values: np.ndarray) -> Interval | None:
    """Return the interval of a mean of at least 0: Wilson's score interval of a share, else Student's t.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927).

    Args:
        values: one per independent sample, such as whether it was right, or its squared error.

    Returns:
        (low, high); `None` where one value that is no share says nothing of its spread.

    >>> low, high = of_mean(np.array([True] * 90 + [False] * 10))
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)
    """
    from scipy import stats

    if values.dtype == bool:
        found = stats.binomtest(int(values.sum()), len(values)).proportion_ci(CONFIDENCE, "wilson")
        return float(found.low), float(found.high)
    found = _student(values)
    return None if found is None else (max(found[0], 0.0), found[1])


def of_difference(ours: np.ndarray, theirs: np.ndarray) -> Interval | None:
    """Return the interval of the difference of two means on the same samples.

    Of shares it is the adjusted Wald interval of D. G. Bonett and R. M. Price, "Adjusted Wald confidence interval for a
    difference of binomial proportions based on paired data", Journal of Educational and Behavioral Statistics 37
    (2012), which stays wider than nothing where two models are right on the same samples; else Student's t of the
    differences.

    Args:
        ours: one value per sample.
        theirs: those of the other model, of the same samples in the same order.

    Returns:
        (low, high) of the mean of `ours` less that of `theirs`; `None` where it isn't known.

    >>> right, other = np.arange(100) >= 3, np.arange(100) % 50 >= 2
    >>> low, high = of_difference(right, other)
    >>> round(low, 3), round(high, 3)
    (-0.033, 0.053)
    """
    from scipy import stats

    if ours.shape != theirs.shape:
        return None
    if ours.dtype != bool or theirs.dtype != bool:
        return _student(ours.astype(np.float64) - theirs)
    count = len(ours) + 2
    up, down = (int((ours & ~theirs).sum()) + 1) / count, (int((theirs & ~ours).sum()) + 1) / count
    half = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * math.sqrt((up + down - (up - down) ** 2) / count)
    return max(up - down - half, -1.0), min(up - down + half, 1.0)


def of_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Interval | None:
    """Return the interval of a ratio of two positive figures that were taken together several times: of its logarithm.

    Args:
        ours: the figure above the line, of each time.
        theirs: the figure below it, of the same times.

    Returns:
        (low, high) of the ratio; `None` where it isn't known.

    >>> low, high = of_ratio([2.0, 2.2, 2.1, 2.0], [1.0, 1.0, 1.1, 1.0])
    >>> round(low, 2), round(high, 2)
    (1.84, 2.23)
    """
    if len(ours) != len(theirs) or min((*ours, *theirs), default=0.0) <= 0:
        return None
    found = _student(np.log(ours) - np.log(theirs))
    return None if found is None else (math.exp(found[0]), math.exp(found[1]))


def of_f1_differences(labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray, classes: int) -> list[Interval]:
    """Return for each class the interval of the difference of two models' F1 on the same samples.

    They are percentiles of the paired bootstrap over samples: B. Efron, "Bootstrap methods: another look at the
    jackknife", The Annals of Statistics 7 (1979). F1 depends on a sample by no more than whether it is of the class and
    whether each model says so, so that numbers of samples of these eight kinds are drawn, not the samples.

    Args:
        labels: the right class of each sample.
        ours: the class that one model says.
        theirs: the class that the other one says.
        classes: how many there are.

    Returns:
        (low, high) of our F1 less theirs, by class.
    """
    random = np.random.default_rng(0)
    tail = 50 * (1 - CONFIDENCE)
    found = []
    for number in range(classes):
        kind = 4 * (labels == number) + 2 * (ours == number) + (theirs == number)
        shares = np.bincount(kind, minlength=8) / len(labels)
        drawn = random.multinomial(len(labels), shares, size=RESAMPLES).reshape(-1, 2, 2, 2)
        differences = _f1(drawn.sum(axis=3)) - _f1(drawn.sum(axis=2))
        low, high = np.percentile(differences, [tail, 100 - tail])
        found.append((float(low), float(high)))
    return found


def _f1(counts: np.ndarray) -> np.ndarray:
    """Return F1 of (..., is of the class, is called so) numbers of samples; 0 where there is none."""
    right = 2 * counts[:, 1, 1]
    return right / np.maximum(1, right + counts[:, 1, 0] + counts[:, 0, 1])


def _student(values: np.ndarray) -> Interval | None:
    from scipy import stats

    if len(values) < 2:
        return None
    mean = float(values.mean())
    error = float(stats.sem(values))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1)) * error
    return mean - half, mean + half
