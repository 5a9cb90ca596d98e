"""Pruning: schedules of sparsity, masks, and the verbs that apply them to a model."""

from typing import Any

from tfcompress.core.old_calls import old_attribute
from tfcompress.pruning import allocation
from tfcompress.pruning.criteria import needs
from tfcompress.pruning.fixed_masks import keep_zeros
from tfcompress.pruning.granularity import Block, NofM
from tfcompress.pruning.mask import Mask
from tfcompress.pruning.prune import prune, prune_once
from tfcompress.pruning.prune_config import PruneConfig
from tfcompress.pruning.schedules import (
    OLD_NAMES,
    ConstantSparsity,
    CosineSparsity,
    ExponentialSparsity,
    FunctionSchedule,
    OneShot,
    PolynomialSparsity,
    Regrowth,
    Schedule,
)
from tfcompress.pruning.shrinking import ShrinkReport, shrink, shrink_report
from tfcompress.pruning.xnnpack import XNNPackLayers, xnnpack_prunable

__all__ = [
    "Block",
    "ConstantSparsity",
    "CosineSparsity",
    "ExponentialSparsity",
    "FunctionSchedule",
    "Mask",
    "NofM",
    "OneShot",
    "PolynomialSparsity",
    "PruneConfig",
    "Regrowth",
    "Schedule",
    "ShrinkReport",
    "XNNPackLayers",
    "allocation",
    "keep_zeros",
    "needs",
    "prune",
    "prune_once",
    "shrink",
    "shrink_report",
    "xnnpack_prunable",
]


def __getattr__(name: str) -> Any:
    return old_attribute(__name__, {old: (kind.__name__, kind) for old, kind in OLD_NAMES.items()}, name)
