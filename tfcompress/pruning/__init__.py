"""Pruning: schedules of sparsity, masks, and the verbs that apply them to a model."""

from tfcompress.pruning.config import PruneConfig
from tfcompress.pruning.mask import Mask
from tfcompress.pruning.prune import prune, prune_once
from tfcompress.pruning.schedules import ConstantSparsity, CosineDecay, PolynomialDecay, Schedule
from tfcompress.pruning.shrink import ShrinkReport, shrink, shrink_report

__all__ = [
    "ConstantSparsity",
    "CosineDecay",
    "Mask",
    "PolynomialDecay",
    "PruneConfig",
    "Schedule",
    "ShrinkReport",
    "prune",
    "prune_once",
    "shrink",
    "shrink_report",
]
