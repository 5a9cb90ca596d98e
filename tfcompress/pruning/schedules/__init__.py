"""Sparsity as a function of the training step."""

from tfcompress.pruning.schedules.base import Schedule
from tfcompress.pruning.schedules.constant import ConstantSparsity, OneShot, Regrowth
from tfcompress.pruning.schedules.function import FunctionSchedule, as_schedule
from tfcompress.pruning.schedules.ramps import CosineDecay, ExponentialDecay, PolynomialDecay

__all__ = [
    "ConstantSparsity",
    "CosineDecay",
    "ExponentialDecay",
    "FunctionSchedule",
    "OneShot",
    "PolynomialDecay",
    "Regrowth",
    "Schedule",
    "as_schedule",
]
