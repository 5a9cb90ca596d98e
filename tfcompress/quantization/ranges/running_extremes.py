"""From the extremes of calibration batches, one at a time, to the range of an activation.

Nothing here keeps a batch: an estimator holds two numbers or one histogram, however many batches there are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfcompress.quantization.quantize_config import ActivationSpec


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
            counts: As `histograms.counted` counts the values; where `needs_histogram`.

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
