"""How calibration finds the range of an activation, by name."""

from __future__ import annotations

from tfcompress.quantization.quantize_config import ActivationSpec
from tfcompress.quantization.ranges.histograms import Entropy, LeastSquares, Percentile
from tfcompress.quantization.ranges.learned_start import MeanMagnitude
from tfcompress.quantization.ranges.running_extremes import MinMax, MovingAverage, RangeEstimator

ESTIMATORS: dict[str, type[RangeEstimator]] = {
    "minmax": MinMax,
    "ema": MovingAverage,
    "percentile": Percentile,
    "mse": LeastSquares,
    "entropy": Entropy,
    "learned": MeanMagnitude,
    "learned_offset": LeastSquares,
    "pact": MinMax,
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
