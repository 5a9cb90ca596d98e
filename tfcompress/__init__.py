"""Prune, quantize and ship Keras 3 models as TFLite and ONNX, with proof that the file is the model."""

from tfcompress import callbacks
from tfcompress.evaluation.summary import Summary, sparsity, summary
from tfcompress.pruning import (
    ConstantSparsity,
    CosineDecay,
    PolynomialDecay,
    PruneConfig,
    prune,
    prune_once,
)
from tfcompress.surgery import strip

__all__ = [
    "ConstantSparsity",
    "CosineDecay",
    "PolynomialDecay",
    "PruneConfig",
    "Summary",
    "callbacks",
    "prune",
    "prune_once",
    "sparsity",
    "strip",
    "summary",
]
