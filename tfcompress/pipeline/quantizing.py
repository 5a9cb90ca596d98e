"""Quantizing a trained model: the samples it is calibrated with, ranges that settle in time, zeros that stay."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from tfcompress.pipeline.datasets import Data
from tfcompress.pruning import ConstantSparsity, Mask, PruneConfig
from tfcompress.quantization.config import QuantizeConfig
from tfcompress.surgery import kernel_positions, rebuild
from tfcompress.transform import read
from tfcompress.wrapper import CompressedLayer, inner_weights, with_transforms

CALIBRATION_SAMPLES = 512

_NEVER = 2**31 - 1
"""A training step that no training reaches: steps are counted in 32 bits."""


def calibration_samples(data: Data, count: int = CALIBRATION_SAMPLES, seed: int = 0) -> np.ndarray:
    """Return `count` inputs of the training data, or all if there are fewer; drawn, since files are often sorted.

    Example:

    >>> x = np.arange(6.0).reshape(6, 1)
    >>> data = Data("six", x, np.zeros(6, int), x, np.zeros(6, int))
    >>> len(calibration_samples(data, 4)), len(calibration_samples(data, 10))
    (4, 6)
    """
    drawn = np.random.default_rng(seed).permutation(len(data.x_train))[:count]
    return data.x_train[np.sort(drawn)]


def finds_ranges(config: QuantizeConfig) -> bool:
    """Return whether a configuration has ranges of activations that are found from data."""
    return not config.float16 and config.activations is not None and not config.activations.dynamic


def settling(config: QuantizeConfig, steps: int) -> QuantizeConfig:
    """Return `config` with ranges and batch normalization frozen in the last quarter of `steps`.

    The weights then learn with the very ranges that the file will have.

    >>> settling(QuantizeConfig(), 100).freeze_ranges_step
    75
    """
    step = steps * 3 // 4
    return dataclasses.replace(config, freeze_ranges_step=step, freeze_batch_norm_step=step)


def keep_zeros(model: keras.Model) -> keras.Model:
    """Return a copy of a pruned and stripped model whose zeros stay zero in training.

    Args:
        model: A built model. Kernels that have a mask keep it; those without a zero, or with nothing but zeros, are
            left as they are.

    Example:

    >>> import tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model = keep_zeros(tfc.prune_once(model, 0.75))
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0)
    >>> tfc.sparsity(model)
    0.75
    """
    masks: list[tuple[Mask, np.ndarray]] = []

    def wrap(layer: Any) -> Any:
        if isinstance(layer, CompressedLayer) and any(isinstance(t, Mask) for _, t in layer.transforms):
            return layer
        weights = inner_weights(layer)
        found = []
        for position in kernel_positions(layer):
            kept = read(weights[position]) != 0
            if kept.any() and not kept.all():
                config = PruneConfig(ConstantSparsity(float(1 - kept.mean()), begin_step=_NEVER))
                found.append((position, Mask(config)))
                masks.append((found[-1][1], kept))
        return with_transforms(layer, found) if found else layer

    copy = rebuild(model, wrap)
    for mask, kept in masks:
        mask.mask.assign(kept)
    return copy
