"""Which samples are for tests, where nobody has said so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfcompress.data.sources.source import TEST_SHARE

MOST_NAMED = 8
"""Of classes that are too small, in a message."""


def divide(
    samples: int, labels: np.ndarray | None, seed: int, named: Callable[[int], str] = str, otherwise: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the samples to train with and to test on, each in an order that a seed draws.

    Of each class `TEST_SHARE` is for tests, to the nearest sample, and at least one; scikit-learn's `train_test_split`
    takes none of a class that is rare.

    Args:
        samples: How many there are.
        labels: The class of each; `None`: they have none.
        seed: What draws them.
        named: From a class to what it is called.
        otherwise: What else may be done where a class is too small, in words.

    Raises:
        ValueError: If there are fewer than two samples, or fewer than two of a class.

    Example:

    >>> train, test = divide(12, np.array([0] * 10 + [1] * 2), seed=0)
    >>> np.sort(test // 10).tolist(), len(train)
    ([0, 0, 1], 9)
    """
    if samples < 2:
        raise ValueError(f"Expected at least 2 samples, of which one is for tests. Received: {samples}.")
    order = np.random.default_rng(seed).permutation(samples)
    if labels is None:
        count = max(1, round(TEST_SHARE * samples))
        return order[count:], order[:count]
    classes, number, counts = np.unique(labels, return_inverse=True, return_counts=True)
    _check(classes, counts, named, otherwise)
    tests = np.clip(np.rint(TEST_SHARE * counts).astype(int), 1, counts - 1)
    by_class = order[np.argsort(number[order], kind="stable")]
    place_in_class = np.arange(samples) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = np.zeros(samples, bool)
    chosen[by_class[place_in_class < np.repeat(tests, counts)]] = True
    return order[~chosen[order]], order[chosen[order]]


def said(seed: int, by_class: bool) -> str:
    """Return in words how `divide` does it.

    >>> said(3, True)
    'drawn by seed 3, 20 % of each class for tests'
    """
    return f"drawn by seed {seed}, {TEST_SHARE:.0%} of ".replace("%", " %") + (
        "each class for tests" if by_class else "all for tests"
    )


def _check(classes: np.ndarray, counts: np.ndarray, named: Callable[[int], str], otherwise: str) -> None:
    few = np.flatnonzero(counts < 2)
    if few.size:
        found = ", ".join(named(int(classes[place])) for place in few[:MOST_NAMED])
        more = f" and {few.size - MOST_NAMED:,} others" if few.size > MOST_NAMED else ""
        raise ValueError(
            "Expected at least 2 samples of each class, one to train with and one to test on. Received: 1 of "
            f"{found}{more}; {counts.sum():,} samples of {len(classes):,} classes. Take more of them, leave these "
            f"classes out, or divide the data yourself, into parts to train with and to test on.{otherwise}"
        )
