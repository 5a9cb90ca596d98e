"""Pruning: schedules of sparsity, masks, and the verbs that apply them to a model."""

from tfcompress.pruning.config import PruneConfig
from tfcompress.pruning.mask import Mask
from tfcompress.pruning.prune import prune, prune_once
from tfcompress.pruning.schedules import ConstantSparsity, CosineDecay, PolynomialDecay, Schedule
from tfcompress.pruning.xnnpack import XNNPackLayers, xnnpack_prunable

__all__ = [
    "ConstantSparsity",
    "CosineDecay",
    "Mask",
    "PolynomialDecay",
    "PruneConfig",
    "Schedule",
    "XNNPackLayers",
    "prune",
    "prune_once",
    "xnnpack_prunable",
]
