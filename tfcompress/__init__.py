"""Prune, quantize and ship Keras 3 models as TFLite and ONNX, with proof that the file is the model."""

from tfcompress import callbacks
from tfcompress.distillation import distill
from tfcompress.evaluation import Metrics, Report, Timing, benchmark, compare, evaluate
from tfcompress.evaluation.debugging import DebugReport, debug
from tfcompress.evaluation.summary import Summary, sparsity, summary
from tfcompress.evaluation.verification import Verification, verify
from tfcompress.export import Artifact, ParityError, export
from tfcompress.files import save
from tfcompress.loading import load
from tfcompress.pipeline.curves import Sensitivity
from tfcompress.pipeline.sensitivity import sensitivity
from tfcompress.precision import Float16Report, check_float16, full_precision, mixed_precision
from tfcompress.pruning import (
    Block,
    ConstantSparsity,
    CosineDecay,
    ExponentialDecay,
    FunctionSchedule,
    NofM,
    OneShot,
    PolynomialDecay,
    PruneConfig,
    Regrowth,
    Schedule,
    XNNPackLayers,
    prune,
    prune_once,
    shrink,
    targets,
    xnnpack_prunable,
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
    "Block",
    "ConstantSparsity",
    "CosineDecay",
    "DebugReport",
    "ExponentialDecay",
    "Float16Report",
    "FunctionSchedule",
    "Metrics",
    "NofM",
    "OneShot",
    "ParityError",
    "PolynomialDecay",
    "PruneConfig",
    "QuantizationError",
    "QuantizeConfig",
    "Regrowth",
    "Report",
    "Schedule",
    "Sensitivity",
    "Summary",
    "Timing",
    "Verification",
    "WeightSpec",
    "XNNPackLayers",
    "benchmark",
    "calibrate",
    "callbacks",
    "check_float16",
    "compare",
    "debug",
    "dequantize",
    "distill",
    "evaluate",
    "export",
    "full_precision",
    "load",
    "mixed_precision",
    "prune",
    "prune_once",
    "quantization_error",
    "quantize",
    "save",
    "sensitivity",
    "shrink",
    "sparsity",
    "strip",
    "summary",
    "targets",
    "uniform_quantize",
    "verify",
    "xnnpack_prunable",
]
