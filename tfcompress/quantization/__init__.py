"""Quantization: numerics, ranges, placement; calibrated or trained."""

from tfcompress.quantization.graph.batch_norm_folding import fold_batch_norms
from tfcompress.quantization.numerics.arrays import QuantizationError, dequantize, quantization_error, uniform_quantize
from tfcompress.quantization.ptq.batch_norm_reestimation import reestimate_batch_norm
from tfcompress.quantization.ptq.calibration import calibrate
from tfcompress.quantization.ptq.rounding_methods import GPTQ, AdaRound
from tfcompress.quantization.quantize import quantize
from tfcompress.quantization.quantize_config import ActivationSpec, QuantizeConfig, WeightSpec

__all__ = [
    "GPTQ",
    "ActivationSpec",
    "AdaRound",
    "QuantizationError",
    "QuantizeConfig",
    "WeightSpec",
    "calibrate",
    "dequantize",
    "fold_batch_norms",
    "quantization_error",
    "quantize",
    "reestimate_batch_norm",
    "uniform_quantize",
]
