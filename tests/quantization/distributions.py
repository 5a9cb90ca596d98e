"""Values of every kind that calibration meets, and what a range costs them."""

from __future__ import annotations

import numpy as np

from tfcompress.quantization.numerics.nudging import nudge
from tfcompress.quantization.ranges import observers
from tfcompress.quantization.ranges.histograms import counted

KINDS = ("minmax", "ema", "percentile", "mse", "entropy")


def calibrated(spec, *batches):
    estimator = observers.make(spec)
    for batch in batches:
        low, high = float(batch.min()), float(batch.max())
        estimator.update(low, high, counted(batch) if estimator.needs_histogram else None)
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
