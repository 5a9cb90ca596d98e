"""Prune, quantize and ship Keras 3 models as TFLite and ONNX, with proof that the file is the model."""

from tfcompress import callbacks
from tfcompress.evaluation import Metrics, Report, Timing, benchmark, compare, evaluate
from tfcompress.evaluation.debugging import DebugReport, debug
from tfcompress.evaluation.summary import Summary, sparsity, summary
from tfcompress.evaluation.verification import Verification, verify
from tfcompress.export import Artifact, ParityError, export
from tfcompress.loading import load
from tfcompress.pruning import (
    ConstantSparsity,
    CosineDecay,
    PolynomialDecay,
    PruneConfig,
    Schedule,
    prune,
    prune_once,
    shrink,
)
from tfcompress.quantization import (
    ActivationSpec,
    QuantizationError,
    QuantizeConfig,
    WeightSpec,
    calibrate,
    dequantize,
    quantization_error,
    quantize,
    uniform_quantize,
)
from tfcompress.surgery import strip

__all__ = [
    "ActivationSpec",
    "Artifact",
    "ConstantSparsity",
    "CosineDecay",
    "DebugReport",
    "Metrics",
    "ParityError",
    "PolynomialDecay",
    "PruneConfig",
    "QuantizationError",
    "QuantizeConfig",
    "Report",
    "Schedule",
    "Summary",
    "Timing",
    "Verification",
    "WeightSpec",
    "benchmark",
    "calibrate",
    "callbacks",
    "compare",
    "debug",
    "dequantize",
    "evaluate",
    "export",
    "load",
    "prune",
    "prune_once",
    "quantization_error",
    "quantize",
    "shrink",
    "sparsity",
    "strip",
    "summary",
    "uniform_quantize",
    "verify",
]
