"""Where the entries of a table start: those of TensorFlow Model Optimization's clustering, quantiles, k-means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfcompress.quantization.numerics.tensorflow_kernels import k_means_plus_plus
from tfcompress.quantization.weights.kmeans import k_means

Start = Callable[..., Any]

DRAWN_FROM = 1 << 17
"""Values, drawn evenly, among which k-means++ chooses where there are more."""

GRID = 30
"""Points at which the distribution is looked at for "density"; tfmot's."""

GAP = 0.01
"""By which that grid is wider than the values are; tfmot's."""


def linear(values: np.ndarray, count: int, *, seed: int, zero: bool) -> np.ndarray:
    """Return equally spaced entries from the least value to the largest."""
    return np.linspace(values.min(), values.max(), count, dtype=np.float32)


def random(values: np.ndarray, count: int, *, seed: int, zero: bool) -> np.ndarray:
    """Return entries drawn evenly between the least value and the largest."""
    return np.random.default_rng(seed).uniform(values.min(), values.max(), count)


def plus_plus(values: np.ndarray, count: int, *, seed: int, zero: bool) -> np.ndarray:
    """Return values drawn far from each other."""
    if len(values) > DRAWN_FROM:
        values = values[np.random.default_rng(seed).integers(len(values), size=DRAWN_FROM)]
    found = k_means_plus_plus(values, min(count, len(values)), seed)
    return np.resize(found, count)


def density(values: np.ndarray, count: int, *, seed: int, zero: bool) -> np.ndarray:
    """Return the points of a grid between which equal shares of the values lie."""
    least, most = values.min(), values.max()
    gap = np.float32(min(GAP, min(abs(least), abs(most)) / 2) if zero else GAP)
    grid = np.linspace(least - gap, most + gap, GRID, dtype=np.float32)
    shares = np.array([np.count_nonzero(values <= point) for point in grid], np.float32) / np.float32(len(values))
    wanted = np.linspace(GAP, 1, count, dtype=np.float32)
    return grid[np.minimum(np.searchsorted(shares, wanted, side="right"), GRID - 1)]


def quantile(values: np.ndarray, count: int, *, seed: int, zero: bool) -> np.ndarray:
    """Return the medians of as many equal shares of the values."""
    ordered = np.sort(values)
    return ordered[((2 * np.arange(count) + 1) * len(values)) // (2 * count)]


def exact(values: np.ndarray, count: int, *, seed: int, zero: bool) -> np.ndarray:
    """Return the entries of least squared error."""
    return np.resize(k_means(values, count), count)


STARTS: dict[str, Start] = {
    "kmeans++": plus_plus,
    "linear": linear,
    "random": random,
    "density": density,
    "quantile": quantile,
    "kmeans": exact,
}
"""By name: from float32 values, at least one, to entries in any order."""


def start(values: np.ndarray, count: int, init: str, *, zero: bool, seed: int) -> np.ndarray:
    """Return where the entries of a table start, float32, in any order.

    Args:
        values: float32, of any shape.
        count: How many.
        init: One of `STARTS`.
        zero: Whether there is a 0 beside them: values below it and above it then have, each by themselves, entries in
            the ratio of their numbers, and zeros have none (tfmot's `preserve_sparsity`).
        seed: Of draws.

    Example:

    >>> start(np.float32([-2, -1, 0, 0, 1, 3]), 4, "linear", zero=True, seed=0).tolist()
    [-2.0, -1.0, 1.0, 3.0]
    """
    values = values.reshape(-1)
    if not zero:
        return np.asarray(STARTS[init](values, count, seed=seed, zero=False), np.float32)
    negative, positive = np.count_nonzero(values < 0), np.count_nonzero(values > 0)
    below = round(count * (negative / max(negative + positive, 1)))
    found = []
    if below and negative:
        found.append(STARTS[init](values[values < 0], below, seed=seed, zero=True))
    if count - below and positive:
        found.append(STARTS[init](values[values > 0], count - below, seed=seed, zero=True))
    return np.resize(np.concatenate([*found, np.zeros(0 if found else 1)]), count).astype(np.float32)
