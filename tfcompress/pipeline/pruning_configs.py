"""What a job prunes with: a schedule over the steps of a training, one config for all layers or one for each."""

from __future__ import annotations

from typing import Any

from tfcompress.data.dataset import Dataset
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.pruning import PolynomialSparsity, PruneConfig
from tfcompress.pruning.granularity import STRUCTURES

SAMPLES = 1024
"""Of the training data, on which it is counted how often units fire."""


def rising_schedule(final_sparsity: float, steps: int, from_second_update: bool = False) -> PolynomialSparsity:
    """Return a polynomial schedule over the first three quarters of `steps`, with about 25 updates.

    Args:
        final_sparsity: Share of zeros at the end, in [0, 1).
        steps: Of the training.
        from_second_update: Whether the first update is left out, so that there are gradients to go by.
    """
    frequency = max(steps * 3 // 4 // 25, 1)
    updates = max(steps * 3 // 4 // frequency, 2 if from_second_update else 1)
    begin = frequency if from_second_update else 0
    return PolynomialSparsity(0.0, final_sparsity, begin_step=begin, end_step=updates * frequency, frequency=frequency)


def configs_in(config: PruneConfig | LayerConfigs) -> list[PruneConfig]:
    """Return the config of all layers, or those of each."""
    given = config.configs.values() if isinstance(config, LayerConfigs) else [config]
    return [one for one in given if one is not None]


def removes_units(config: PruneConfig | LayerConfigs) -> bool:
    """Return whether whole channels or heads are pruned."""
    return any(one.granularity in STRUCTURES for one in configs_in(config))


def data_for(config: PruneConfig | LayerConfigs, data: Dataset) -> Any:
    """Return what `tfcompress.prune` gathers statistics from beforehand: nothing, but for how often units fire."""
    needed = any("activation_frequency" in one.needs for one in configs_in(config))
    return data.train.drawn(SAMPLES) if needed else None
