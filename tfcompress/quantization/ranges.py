"""From statistics of calibration batches, one at a time, to the range of an activation; and the limits of weights.

Nothing here keeps a batch: an estimator holds two numbers or one histogram, however many batches there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tfcompress.quantization.arrays import checked
from tfcompress.quantization.config import WEIGHT_RANGES, ActivationSpec
from tfcompress.quantization.numerics import Axis, check_axes, check_bits, nudge

BINS = 2048
"""What the searches see; the histogram that gathers is finer."""

FINER = 4
LEAST_RATIO = 1 / 128
"""The searches try ranges from that part of the extremes to all of it."""


class RangeEstimator:
    """What is common to the estimators: checks, symmetry, zero within the range.

    Args:
        spec: How the activation is quantized.
    """

    needs_histogram = False
    """Whether `update` wants counts."""

    def __init__(self, spec: ActivationSpec):
        self.spec = spec
        self.updates = 0

    def update(self, low: float, high: float, counts: np.ndarray | None = None) -> None:
        """Take in one batch.

        Args:
            low: The least value.
            high: The greatest.
            counts: How many values lie in each of as many equal bins over [low, high]; where `needs_histogram`.

        Raises:
            ValueError: If `low` or `high` is not finite or they are in the wrong order, or the counts are missing,
                negative, or all 0.
        """
        low, high = float(low), float(high)
        if not (math.isfinite(low) and math.isfinite(high)) or low > high:
            raise ValueError(
                f"Expected finite values, low <= high. Received: low={low}, high={high}. "
                "Look for NaN or infinity in the calibration data or in the model."
            )
        if self.needs_histogram:
            if counts is None:
                raise ValueError(f"Expected counts: range={self.spec.range!r} needs a histogram. Received: None.")
            counts = np.asarray(counts, np.float64)
            if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any() or not counts.any():
                raise ValueError(
                    "Expected counts to be a vector of numbers of at least 0, not all 0. "
                    f"Received: shape {counts.shape}, sum {counts.sum()}."
                )
        self._add(low, high, counts)
        self.updates += 1

    def range(self) -> tuple[float, float]:
        """Return the minimum, at most 0, and the maximum, at least 0.

        Raises:
            ValueError: If there was no batch.
        """
        if not self.updates:
            raise ValueError("Expected at least one batch of calibration data. Received: none, it is not calibrated.")
        low, high = self._find()
        low, high = min(low, 0.0), max(high, 0.0)
        if self.spec.symmetric:
            high = max(-low, high)
            low = -high
        return float(low), float(high)

    def _add(self, low: float, high: float, counts: Any) -> None:
        raise NotImplementedError

    def _find(self) -> tuple[float, float]:
        raise NotImplementedError


class MinMax(RangeEstimator):
    """The extremes of all batches."""

    low, high = math.inf, -math.inf

    def _add(self, low: float, high: float, counts: Any) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)

    def _find(self) -> tuple[float, float]:
        return self.low, self.high


class MovingAverage(RangeEstimator):
    """The exponential moving averages of each batch's extremes.

    The zeros that they start from are taken out again, as in Adam (Kingma and Ba 2015, arXiv:1412.6980, section 3):
    after t batches the average is divided by 1 - momentum^t.
    """

    low = high = 0.0

    def _add(self, low: float, high: float, counts: Any) -> None:
        momentum = self.spec.momentum
        self.low += (1 - momentum) * (low - self.low)
        self.high += (1 - momentum) * (high - self.high)

    def _find(self) -> tuple[float, float]:
        weight = 1 - self.spec.momentum**self.updates
        return self.low / weight, self.high / weight


def _rebin(edges: np.ndarray, counts: np.ndarray, into: np.ndarray) -> np.ndarray:
    """Return the counts in other bins; values are taken to be evenly spread within each bin."""
    cumulated = np.concatenate([[0.0], np.cumsum(counts)])
    return np.diff(np.interp(into, edges, cumulated))


class Histogram(RangeEstimator):
    """All batches' values in equal bins over their common extremes."""

    needs_histogram = True
    low, high = math.inf, -math.inf
    counts: np.ndarray

    def _add(self, low: float, high: float, counts: np.ndarray) -> None:
        start, end = min(self.low, low), max(self.high, high)
        if not end > start:
            end = start
        edges = np.linspace(start, end, FINER * BINS + 1)
        merged = self._into(edges, low, high, counts)
        if self.updates:
            same = (start, end) == (self.low, self.high)
            merged += self.counts if same else self._into(edges, self.low, self.high, self.counts)
        self.low, self.high, self.counts = start, end, merged

    @staticmethod
    def _into(edges: np.ndarray, low: float, high: float, counts: np.ndarray) -> np.ndarray:
        own = np.linspace(low, high, len(counts) + 1)
        if (np.diff(own) > 0).all():
            return _rebin(own, counts, edges)
        # All values are one number, or next to it: they fall into its bin.
        merged = np.zeros(len(edges) - 1)
        merged[min(max(int(np.searchsorted(edges, low, side="right")) - 1, 0), len(merged) - 1)] = counts.sum()
        return merged

    def _view(self) -> tuple[np.ndarray, np.ndarray]:
        """Return BINS bins' edges and counts: of the values or, for a symmetric range, of their absolute values.

        Zero is the end of a range of one-sided data.
        """
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        if self.spec.symmetric:
            into = np.linspace(0.0, max(-self.low, self.high), BINS + 1)
            below = np.diff(np.interp(-into[::-1], edges, np.concatenate([[0.0], np.cumsum(self.counts)])))[::-1]
            return into, _rebin(edges, self.counts, into) + below
        into = np.linspace(min(self.low, 0.0), max(self.high, 0.0), BINS + 1)
        return into, _rebin(edges, self.counts, into)

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
            step = high / (2 ** (bits - 1) - 1) if symmetric else float(nudge(low, high, bits)[2])
            first = 0.0 if symmetric else -float(nudge(low, high, bits)[3]) * step
            last = high if symmetric else first + (2**bits - 1) * step
            clipped = np.clip(x, first, last)
            beyond = np.square(x - clipped)
            if step < 2 * width:
                # Finer than the bins: evenly spread errors.
                within = np.where(beyond == 0, step * step / 12, 0.0)
                return float(n @ (beyond + within))
            return float(n @ np.square(np.rint(clipped / step) * step - x))

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


ESTIMATORS: dict[str, type[RangeEstimator]] = {
    "minmax": MinMax,
    "ema": MovingAverage,
    "percentile": Percentile,
    "mse": LeastSquares,
    "entropy": Entropy,
}
"""By the name in `ActivationSpec.range`."""


def make(spec: ActivationSpec) -> RangeEstimator:
    """Return an estimator of the kind that the specification names.

    Args:
        spec: How an activation is quantized.

    Raises:
        ValueError: If its range is not calibrated but dynamic.

    Example:

    >>> estimator = make(ActivationSpec(range="minmax"))
    >>> estimator.update(0.5, 2.0)
    >>> estimator.update(-1.0, 1.0)
    >>> estimator.range()
    (-1.0, 2.0)
    """
    if spec.dynamic:
        raise ValueError("Expected an activation whose range is calibrated. Received: dynamic=True, found at run time.")
    return ESTIMATORS[spec.range](spec)


def weight_limit(x: Any, axis: Axis = None, bits: int = 8, range: str = "minmax") -> np.ndarray:
    """Return the limit of each channel's symmetric grid.

    Args:
        x: Weights, float.
        axis: The channel axes, in order; `None`: one limit for all.
        bits: 2 to 16.
        range: "minmax": the largest |x|; "mse": the limit, at most that, of least squared error.

    Returns:
        float32, of the shape of `x` along `axis`; 0 where all weights are.

    Raises:
        ValueError: If an argument is out of range, or `x` is empty or not finite.

    Example:

    >>> weight_limit([[1.0, -4.0], [0.5, 2.0]], axis=1).tolist()
    [1.0, 4.0]
    """
    check_bits(bits)
    if range not in WEIGHT_RANGES:
        raise ValueError(f"Expected range to be one of {WEIGHT_RANGES}. Received: range={range!r}.")
    x = checked(x)
    axes = () if axis is None else check_axes(axis, x.ndim)
    others = tuple(a for a in np.arange(x.ndim).tolist() if a not in axes)
    largest = np.max(np.abs(x), axis=others, keepdims=True)
    if range == "minmax":
        return np.squeeze(largest, others)
    steps = np.float32(2 ** (bits - 1) - 1)
    buffer = np.empty_like(x)

    def error(ratio: np.ndarray) -> np.ndarray:
        scale = np.where(largest == 0, 1.0, ratio * largest / steps).astype(np.float32)
        np.divide(x, scale, out=buffer)
        np.rint(buffer, out=buffer)
        np.clip(buffer, -steps, steps, out=buffer)
        np.multiply(buffer, scale, out=buffer)
        np.subtract(buffer, x, out=buffer)
        np.square(buffer, out=buffer)
        return buffer.sum(axis=others, keepdims=True, dtype=np.float64)

    best = np.ones_like(largest, np.float64)
    least = error(best)
    centre, reach, points = 0.5 * np.log(LEAST_RATIO) * best, -0.5 * math.log(LEAST_RATIO), 41
    for _ in (0, 1, 2):
        for offset in np.linspace(-reach, reach, points):
            ratio = np.minimum(np.exp(centre + offset), 1.0)
            found = error(ratio)
            better = found < least
            best, least = np.where(better, ratio, best), np.where(better, found, least)
        centre, reach, points = np.log(best), 2 * reach / (points - 1), 7
    return np.squeeze((best * largest).astype(np.float32), others)
