"""Where a range that is trained begins."""

from __future__ import annotations

import math

import numpy as np

from tfcompress.quantization.ranges.histograms import Histogram


class MeanMagnitude(Histogram):
    """The range whose scale is 2 * mean |x| / sqrt(largest integer), or the extremes where these are nearer.

    So LSQ begins (Esser et al. 2020, arXiv:1902.08153, section 2.1). Data without negative numbers, as behind a ReLU,
    has a grid from 0.
    """

    def _search(self, edges: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
        middle = np.abs(edges[1:] + edges[:-1]) / 2
        mean = float(middle @ counts) / float(counts.sum())
        signed = self.spec.symmetric or edges[0] < 0
        highest = 2 ** (self.spec.bits - (1 if signed else 0)) - 1
        limit = 2 * mean * math.sqrt(highest)
        return max(float(edges[0]), -limit), min(float(edges[-1]), limit)
