"""Recurrent layers that keep their state from one batch to the next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.transform import put, read


@contextlib.contextmanager
def beginning(model: Any) -> Iterator[None]:
    """Let stateful recurrent layers of a model or layer begin with zeros; behind the block they have their old state.

    What is found from data so depends on that data alone, and a model that was looked at goes on as if it had not been.

    Example:

    >>> layers = [keras.Input(batch_shape=(1, 2, 3)), keras.layers.GRU(4, stateful=True)]
    >>> model = keras.Sequential(layers)
    >>> with beginning(model):
    ...     _ = model(np.ones((1, 2, 3)))
    >>> np.abs(model.layers[0].states[0]).max().item()
    0.0
    """
    layers = flatten_layers(model) if isinstance(model, keras.layers.Layer) else []
    states = [variable for layer in layers for variable in _states(layer)]
    before = [read(variable) for variable in states]
    try:
        for variable, value in zip(states, before, strict=True):
            put(variable, np.zeros_like(value))
        yield
    finally:
        for variable, value in zip(states, before, strict=True):
            put(variable, value)


def _states(layer: Any) -> list[Any]:
    kept = layer.states if isinstance(layer, keras.layers.RNN) and layer.stateful else None
    return [] if kept is None else list(keras.tree.flatten(kept))
