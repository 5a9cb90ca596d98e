"""What two tensors differ by."""

from __future__ import annotations

import math

import numpy as np


class Values:
    """What two tensors differ by, summed up over batches.

    Attributes:
        scale: of its quantization; None: float.
    """

    def __init__(self, scale: float | None):
        self.scale = scale
        self.count = 0
        self.equal = 0
        self.signal = self.sum = self.noise = self.absolute = self.largest = self.peak = 0.0

    def add(self, reference: np.ndarray, value: np.ndarray) -> None:
        """Add a batch."""
        with np.errstate(invalid="ignore"):
            difference = np.where(reference == value, 0.0, np.abs(reference - value))
        difference = np.where(np.isnan(reference) & np.isnan(value), 0.0, difference)
        difference = np.where(np.isnan(difference), np.inf, difference)
        reference = np.where(np.isfinite(reference), reference, 0.0)
        self.count += difference.size
        self.sum += float(reference.sum())
        self.signal += float(np.square(reference).sum())
        self.noise += float(np.square(difference).sum())
        self.absolute += float(difference.sum())
        self.largest = max(self.largest, float(difference.max(initial=0.0)))
        self.peak = max(self.peak, float(np.abs(reference).max(initial=0.0)))
        self.equal += int((difference < self.scale / 2 if self.scale else difference == 0).sum())

    @property
    def sqnr(self) -> float | None:
        """Variance of the reference over the mean squared difference, in dB; None if nothing differs."""
        if not self.noise or not self.count:
            return None
        variance = max(self.signal / self.count - (self.sum / self.count) ** 2, 0.0)
        ratio = variance * self.count / self.noise
        return 10 * math.log10(ratio) if ratio else -math.inf  # what was never written may be infinite

    @property
    def max_steps(self) -> float | None:
        """Largest difference in steps."""
        return self.largest / self.scale if self.scale else None

    @property
    def mean_steps(self) -> float | None:
        """Mean difference in steps."""
        return self.absolute / self.count / self.scale if self.scale and self.count else None

    @property
    def mean(self) -> float:
        """Mean difference."""
        return self.absolute / max(self.count, 1)

    @property
    def share(self) -> float:
        """Share of the values that are equal: on a grid the same integer."""
        return self.equal / max(self.count, 1)
