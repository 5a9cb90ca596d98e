"""Pruning: schedules of sparsity, masks, and the verbs that apply them to a model."""

from tfcompress.pruning import allocation
from tfcompress.pruning.criteria import needs
from tfcompress.pruning.granularity import Block, NofM
from tfcompress.pruning.mask import Mask
from tfcompress.pruning.prune import prune, prune_once
from tfcompress.pruning.prune_config import PruneConfig
from tfcompress.pruning.schedules import (
    ConstantSparsity,
    CosineDecay,
    ExponentialDecay,
    FunctionSchedule,
    OneShot,
    PolynomialDecay,
    Regrowth,
    Schedule,
)
from tfcompress.pruning.shrinking import ShrinkReport, shrink, shrink_report
from tfcompress.pruning.xnnpack import XNNPackLayers, xnnpack_prunable

__all__ = [
    "Block",
    "ConstantSparsity",
    "CosineDecay",
    "ExponentialDecay",
    "FunctionSchedule",
    "Mask",
    "NofM",
    "OneShot",
    "PolynomialDecay",
    "PruneConfig",
    "Regrowth",
    "Schedule",
    "ShrinkReport",
    "XNNPackLayers",
    "allocation",
    "needs",
    "prune",
    "prune_once",
    "shrink",
    "shrink_report",
    "xnnpack_prunable",
]
