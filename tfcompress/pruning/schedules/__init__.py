"""Sparsity as a function of the training step."""

from tfcompress.pruning.schedules.base import Schedule
from tfcompress.pruning.schedules.constant import ConstantSparsity, OneShot, Regrowth
from tfcompress.pruning.schedules.function import FunctionSchedule, as_schedule
from tfcompress.pruning.schedules.ramps import OLD_NAMES, CosineSparsity, ExponentialSparsity, PolynomialSparsity

__all__ = [
    "OLD_NAMES",
    "ConstantSparsity",
    "CosineSparsity",
    "ExponentialSparsity",
    "FunctionSchedule",
    "OneShot",
    "PolynomialSparsity",
    "Regrowth",
    "Schedule",
    "as_schedule",
]
