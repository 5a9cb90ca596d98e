"""Which layers hurt most when they compute in integers: each by itself, all others in float."""

from __future__ import annotations

import re
import warnings
from typing import Any

import keras
import numpy as np

from tfcompress.data.epoch_batches import rows_of
from tfcompress.pipeline.sensitivity import scanned_layers
from tfcompress.quantization.quantize import quantize

SAMPLES = 128


def damages(model: keras.Model, inputs: Any, config: Any = "int8") -> dict[str, float]:
    """Return by how much outputs change if one layer alone is quantized, those that hurt most first.

    Args:
        model: a float model; it is not changed.
        inputs: an array of samples to calibrate with, of which some are looked at; several by name.
        config: how the layer is quantized.

    Returns:
        {layer: mean squared change of the outputs, as a share of their variance}.

    Example:

    >>> keras.utils.set_random_seed(0)
    >>> layers = [keras.layers.Dense(8, name="harmless"), keras.layers.Dense(2, name="harmful")]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> model.layers[0].set_weights([np.eye(4, 8) + np.eye(4, 8, 4) * 1e4, np.zeros(8)])
    >>> list(damages(model, np.random.default_rng(0).normal(size=(64, 4)).astype("float32")))
    ['harmful', 'harmless']
    """
    names = list(scanned_layers(model))
    head = rows_of(inputs, slice(SAMPLES))
    wanted = _outputs(model, head)
    found = {}
    for name in names:
        configs = {re.escape(name): config} if len(names) == 1 else {re.escape(name): config, ".*": None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                changed = _outputs(quantize(model, configs, inputs), head)
            except ValueError:  # it can't be quantized by itself: the last to be left wide
                found[name] = -1.0
                continue
        found[name] = float(np.mean((changed - wanted) ** 2)) / max(float(wanted.var()), 1e-30)
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def _outputs(model: keras.Model, inputs: Any) -> np.ndarray:
    outputs = keras.tree.flatten(model(inputs, training=False))
    return np.concatenate([np.ravel(keras.ops.convert_to_numpy(each)) for each in outputs])
