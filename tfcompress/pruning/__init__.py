"""Pruning: schedules of sparsity, masks, and the verbs that apply them to a model."""

from tfcompress.pruning import targets
from tfcompress.pruning.config import PruneConfig
from tfcompress.pruning.mask import Mask
from tfcompress.pruning.prune import prune, prune_once
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

__all__ = [
    "ConstantSparsity",
    "CosineDecay",
    "ExponentialDecay",
    "FunctionSchedule",
    "Mask",
    "OneShot",
    "PolynomialDecay",
    "PruneConfig",
    "Regrowth",
    "Schedule",
    "prune",
    "prune_once",
    "targets",
]
