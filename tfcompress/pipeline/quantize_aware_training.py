"""Quantizing a trained model: ranges that settle in time, zeros that stay."""

from __future__ import annotations

import dataclasses

import keras

from tfcompress.core.transform import read
from tfcompress.core.wrappers import inner_weights
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.pruning.fixed_masks import with_masks
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


def keep_zeros(model: keras.Model) -> keras.Model:
    """Return a copy of a pruned and stripped model whose zeros stay zero in training.

    Args:
        model: A built model. Kernels that have a mask keep it; those without a zero, or with nothing but zeros, are
            left as they are.

    Example:

    >>> import tfcompress as tfc
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model = keep_zeros(tfc.prune_once(model, 0.75))
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0)
    >>> tfc.sparsity(model)
    0.75
    """
    return with_masks(model, lambda layer, position: read(inner_weights(layer)[position]) != 0)
