"""Prune, quantize and ship Keras 3 models as TFLite and ONNX, with proof that the file is the model."""

from tfcompress import callbacks
from tfcompress.evaluation import Metrics, Report, Timing, benchmark, compare, evaluate
from tfcompress.evaluation.summary import Summary, sparsity, summary
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
)
from tfcompress.surgery import strip

__all__ = [
    "Artifact",
    "ConstantSparsity",
    "CosineDecay",
    "Metrics",
    "ParityError",
    "PolynomialDecay",
    "PruneConfig",
    "Report",
    "Schedule",
    "Summary",
    "Timing",
    "benchmark",
    "callbacks",
    "compare",
    "evaluate",
    "export",
    "load",
    "prune",
    "prune_once",
    "sparsity",
    "strip",
    "summary",
]
