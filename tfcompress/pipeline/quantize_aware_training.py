"""Quantizing a trained model: ranges that settle in time."""

from __future__ import annotations

import dataclasses

from tfcompress.graph.config_map import LayerConfigs
from tfcompress.quantization.quantize_config import QuantizeConfig

CALIBRATION_SAMPLES = 512
"""Drawn from what a model is trained with."""


def finds_ranges(config: QuantizeConfig) -> bool:
    """Return whether a configuration has ranges of activations that are found from data."""
    return not config.float16 and config.activations is not None and not config.activations.dynamic


def settling(config: QuantizeConfig | LayerConfigs, steps: int) -> QuantizeConfig | LayerConfigs:
    """Return a config, or those of layers, with ranges and batch normalization frozen in the last quarter of `steps`.

    The weights then learn with the very ranges that the file will have.

    >>> settling(QuantizeConfig(), 100).freeze_ranges_step
    75
    """
    step = steps * 3 // 4
    if isinstance(config, LayerConfigs):
        return LayerConfigs({key: one and settling(one, steps) for key, one in config.configs.items()})
    return dataclasses.replace(config, freeze_ranges_step=step, freeze_batch_norm_step=step)
