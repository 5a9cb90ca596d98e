"""Ranges of activations that are sought in a histogram: by percentile, least squared error, or least divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tfcompress.quantization.numerics.nudging import nudge
from tfcompress.quantization.ranges.running_extremes import RangeEstimator
from tfcompress.quantization.ranges.weight_limits import LEAST_RATIO

BINS = 2048
"""What the searches see; the histogram that gathers is finer."""

SIDE = 4 * BINS
"""How many bins gather the values on either side of zero."""

LEAST_EXPONENT, MOST_EXPONENT = -100, 128


def exponent(low: float, high: float) -> int:
    """Return e such that all of [low, high] lies between -2^e and 2^e: bins that gather it are 2^e / SIDE wide.

    >>> [exponent(low, high) for low, high in ((-1.0, 3.0), (0.0, 4.0), (0.0, 0.0))]
    [2, 3, -100]
    """
    largest = max(abs(low), abs(high))
    return max(math.frexp(largest)[1], LEAST_EXPONENT) if largest else LEAST_EXPONENT  # that of 0 is given as 0


def counted(x: Any) -> np.ndarray:
    """Return how many values lie in each of the 2 * SIDE bins that gather their extremes.

    >>> np.flatnonzero(counted([-1.0, 0.0, 0.99])).tolist()
    [4096, 8192, 12247]
    """
    x = np.asarray(x, np.float64).ravel()
    width = math.ldexp(1.0 / SIDE, exponent(x.min(), x.max()))
    return np.bincount(np.floor(x / width).astype(np.int64) + SIDE, minlength=2 * SIDE)


def _rebin(edges: np.ndarray, counts: np.ndarray, into: np.ndarray) -> np.ndarray:
    """Return the counts in other bins; values are taken to be evenly spread within each bin."""
    cumulated = np.concatenate([[0.0], np.cumsum(counts)])
    return np.diff(np.interp(into, edges, cumulated))


class Histogram(RangeEstimator):
    """All values in equal bins, whose edges are whole numbers of a power of two.

    Two batches' bins are the same, or several of one make up one of the other. So merging is exact: one set of data
    has one histogram, however it is cut into batches and ordered.
    """

    needs_histogram = True
    low, high = math.inf, -math.inf
    exponent = LEAST_EXPONENT
    counts: np.ndarray

    def _add(self, low: float, high: float, counts: np.ndarray) -> None:
        own = exponent(low, high)
        most = max(self.exponent, own)
        merged = self._coarser(counts, most - own)
        if self.updates:
            merged = merged + self._coarser(self.counts, most - self.exponent)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.exponent, self.counts = most, merged

    @staticmethod
    def _coarser(counts: np.ndarray, doublings: int) -> np.ndarray:
        """Return the counts in bins that are 2^doublings times as wide."""
        if not doublings:
            return counts
        places = (np.arange(-SIDE, SIDE) >> min(doublings, 62)) + SIDE
        return np.bincount(places, counts, minlength=2 * SIDE)

    def _filled(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the edges and counts of the bins between the extremes, which are the outer edges."""
        width = math.ldexp(1.0 / SIDE, self.exponent)
        first, last = math.floor(self.low / width), math.floor(self.high / width)
        edges = np.arange(first, last + 2) * width
        edges[0], edges[-1] = self.low, self.high
        counts = self.counts[first + SIDE : last + SIDE + 1]
        if len(counts) > 1 and edges[-1] <= edges[-2]:  # the largest value is the lower edge of its bin
            return edges[:-1], np.concatenate([counts[:-2], [counts[-2] + counts[-1]]])
        return edges, counts

    def _view(self) -> tuple[np.ndarray, np.ndarray]:
        """Return BINS bins' edges and counts: of the values or, for a symmetric range, of their absolute values.

        Zero is the end of a range of one-sided data.
        """
        edges, counts = self._filled()
        if self.spec.symmetric:
            into = np.linspace(0.0, max(-self.low, self.high), BINS + 1)
            below = np.diff(np.interp(-into[::-1], edges, np.concatenate([[0.0], np.cumsum(counts)])))[::-1]
            return into, _rebin(edges, counts, into) + below
        into = np.linspace(min(self.low, 0.0), max(self.high, 0.0), BINS + 1)
        return into, _rebin(edges, counts, into)

    def _find(self) -> tuple[float, float]:
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        return (low, high) if self.low == self.high else self._search(*self._view())

    def _search(self, edges: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
        raise NotImplementedError


class Percentile(Histogram):
    """The range that holds `spec.percentile` per cent of the values.

    What is left over is cut from both sides in equal parts; of one-sided data, such as what a ReLU gives, all of it
    from the one side that has an end to move. A symmetric range holds that share of the absolute values.
    """

    def _search(self, edges: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
        left_over = 1 - self.spec.percentile / 100
        cut = left_over / 2 if edges[0] < 0 < edges[-1] else left_over
        high = _quantile(edges, counts, 1 - cut) if edges[-1] > 0 else 0.0
        low = -_quantile(-edges[::-1], counts[::-1], 1 - cut) if edges[0] < 0 else 0.0
        width = edges[1] - edges[0]
        # Almost nothing but zeros: what is not zero is all that needs a range.
        return (float(edges[0]), float(edges[-1])) if max(-low, high) <= width else (low, high)


def _quantile(edges: np.ndarray, counts: np.ndarray, share: float) -> float:
    """Return the number below which `share` of the values lie: where bins are empty, the end next to those below."""
    filled = np.concatenate([[False], counts > 0])
    filled[int(np.argmax(counts > 0))] = True
    cumulated = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    return float(np.interp(share, cumulated[filled], edges[filled]))


def _best_window(edges: np.ndarray, cost: Callable[[float, float], float]) -> tuple[float, float]:
    """Return the ends, parts of the outer edges, of least cost: tried on a geometric grid, then finer around the best.

    An end at zero stays there.
    """
    outer = (-min(edges[0], 0.0), max(edges[-1], 0.0))
    centre, reach, points = [0.5 * math.log(LEAST_RATIO)] * 2, -0.5 * math.log(LEAST_RATIO), 24
    best, window = cost(-outer[0], outer[1]), (-outer[0], outer[1])
    for _ in range(4):
        logs = [
            np.minimum(c + np.linspace(-reach, reach, points), 0.0) if end else np.zeros(1)
            for c, end in zip(centre, outer, strict=True)
        ]
        for a in np.unique(logs[0]):
            for b in np.unique(logs[1]):
                ends = (-outer[0] * math.exp(a), outer[1] * math.exp(b))
                if (error := cost(*ends)) < best:
                    best, window = error, ends
        centre = [math.log(abs(w) / e) if e else 0.0 for w, e in zip(window, outer, strict=True)]
        reach, points = 2 * reach / (points - 1), 7
    return window


class LeastSquares(Histogram):
    """The range of least squared error, rounding within it and saturation beyond it, for `spec.bits`."""

    def _search(self, edges: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
        used = counts > 0
        x, n, width = ((edges[1:] + edges[:-1]) / 2)[used], counts[used], float(edges[1] - edges[0])
        bits, symmetric = self.spec.bits, self.spec.symmetric

        def cost(low: float, high: float) -> float:
            # Symmetric: the histogram is that of |x|, its grid half of the integers.
            scale = high / (2 ** (bits - 1) - 1) if symmetric else float(nudge(low, high, bits)[2])
            first = 0.0 if symmetric else -float(nudge(low, high, bits)[3]) * scale
            last = high if symmetric else first + (2**bits - 1) * scale
            clipped = np.clip(x, first, last)
            beyond = np.square(x - clipped)
            if scale < 2 * width:
                # Finer than the bins: evenly spread errors.
                within = np.where(beyond == 0, scale * scale / 12, 0.0)
                return float(n @ (beyond + within))
            return float(n @ np.square(np.rint(clipped / scale) * scale - x))

        return _best_window(edges, cost)


def divergence(counts: np.ndarray, start: int, stop: int, levels: int) -> float:
    """Return the Kullback-Leibler divergence of values in bins from the same values on a coarser grid.

    Args:
        counts: The histogram.
        start: The first bin of the range.
        stop: The bin behind its last.
        levels: How many numbers the grid has. What lies outside of the range falls into its outer bins; each level
            shares its count evenly among its bins that are not empty.

    Returns:
        In nats, at least 0.
    """
    inside = counts[start:stop]
    wanted = inside.copy()
    wanted[0] += counts[:start].sum()
    wanted[-1] += counts[stop:].sum()
    level = np.arange(len(inside)) * levels // len(inside)
    used = inside > 0
    total = np.bincount(level, inside)
    share = total / np.maximum(np.bincount(level, used), 1)
    given = np.where(used, share[level], 0.0)
    wanted, given = wanted / wanted.sum(), given / max(given.sum(), 1e-300)
    # A bin that only holds what was cut off is not in the grid: a ten-thousandth keeps its logarithm finite.
    given = (1 - 1e-4) * given + 1e-4 / len(given)
    filled = wanted > 0
    return float(np.sum(wanted[filled] * np.log(wanted[filled] / given[filled])))


class Entropy(Histogram):
    """The range that keeps most of the distribution: least Kullback-Leibler divergence.

    For each candidate range the histogram, what is cut off put into the outermost bins, is compared with what 2^bits
    levels leave of it (Migacz 2017, "8-bit inference with TensorRT", GTC). Here the two ends are sought
    independently unless the range is symmetric. Zero is exact on every grid, so the bin that holds it, where
    a ReLU piles up its zeros, counts no more than its neighbours. With more levels than bins, nothing is cut.
    """

    def _search(self, edges: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
        levels = 2 ** (self.spec.bits - 1) if self.spec.symmetric else 2**self.spec.bits
        if levels >= len(counts):
            return float(edges[0]), float(edges[-1])
        counts = counts.copy()
        zero = min(max(int(np.searchsorted(edges, 0.0, side="right")) - 1, 0), len(counts) - 1)
        near = np.concatenate([counts[max(zero - 1, 0) : zero], counts[zero + 1 : zero + 2]])
        counts[zero] = min(counts[zero], near.mean()) if counts.sum() > counts[zero] else counts[zero]
        width = float(edges[1] - edges[0])

        def bins(low: float, high: float) -> tuple[int, int]:
            start = min(max(round((low - edges[0]) / width), 0), zero)
            return start, max(min(round((high - edges[0]) / width), len(counts)), zero + 1)

        def cost(low: float, high: float) -> float:
            start, stop = bins(low, high)
            if stop - start < levels or not counts[start:stop].any():
                return math.inf
            return divergence(counts, start, stop, levels)

        start, stop = bins(*_best_window(edges, cost))
        return float(edges[start]), float(edges[stop])
