"""What calibration sees of a model's inputs, channel by channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfcompress.data.unscaled_pixels import head
from tfcompress.graph.inputs.symbolic import input_name

HEAD = 4096
"""Rows among which most channels have a value that isn't whole: only the others are looked at further."""

MOST_CHANNELS = 4096
"""Of an input with more, such as a sequence without channels, the range of all together is kept."""


class Seen:
    """Collects the range of each channel of each input, and whether it holds whole numbers alone.

    Args:
        model: A functional model.

    Attributes:
        first: The head of the first batch.

    Example:

    >>> model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(1)])
    >>> seen = Seen(model)
    >>> _ = seen.add([np.array([[0.0, 0.5], [1.0, -2.0]])])
    >>> seen.found()
    {'x': [[0.0, -2.0], [1.0, 0.5], [True, False]]}
    """

    def __init__(self, model: keras.Model):
        self.names = [input_name(x) for x in model.inputs]
        self.parts: list[list[np.ndarray] | None] = [None] * len(self.names)
        self.first: list[np.ndarray] = []

    def add(self, batch: list[Any]) -> list[Any]:
        """Note a batch of arrays, one for each input, and return it as it is."""
        if not self.first:
            self.first = head(batch)
        for place, array in enumerate(batch):
            values = np.asarray(array)
            if values.dtype.kind in "biuf" and values.ndim > 1 and values.size:
                self.parts[place] = _merged(self.parts[place], _part(values))
        return batch

    def found(self) -> dict[str, list[list[Any]]]:
        """Return the least and the largest value of each channel and whether it is whole, by input name."""
        named = zip(self.names, self.parts, strict=True)
        return {name: [part.tolist() for part in parts] for name, parts in named if parts is not None}


def _part(values: np.ndarray) -> list[np.ndarray]:
    channels = values.shape[-1] if values.shape[-1] <= MOST_CHANNELS else 1
    flat = values.reshape(-1, channels)
    low, high = (_reduced(reduce, flat).astype(float) for reduce in (np.minimum.reduce, np.maximum.reduce))
    return [low, high, _whole(flat) if values.dtype.kind == "f" else np.ones(channels, bool)]


def _reduced(reduce: Callable[..., np.ndarray], flat: np.ndarray) -> np.ndarray:
    """Return the reduction of each column, of long rows first: of short ones NumPy is slow."""
    rows, channels = flat.shape
    together = max(1, MOST_CHANNELS // channels)
    end = rows - rows % together
    parts = [flat[end:]]
    if end:
        parts.append(reduce(flat[:end].reshape(-1, together * channels), axis=0).reshape(together, channels))
    return reduce(np.concatenate(parts), axis=0)


def _whole(flat: np.ndarray) -> np.ndarray:
    """Return which columns hold whole numbers alone."""
    found = np.all(flat[:HEAD] == np.floor(flat[:HEAD]), axis=0)
    if found.any():
        rest = flat[HEAD:, found]
        found[found] = np.all(rest == np.floor(rest), axis=0)
    return found


def _merged(old: list[np.ndarray] | None, new: list[np.ndarray]) -> list[np.ndarray]:
    if old is None:
        return new
    if old[0].shape != new[0].shape:  # of another length: all together
        old, new = (
            [part[0].min(keepdims=True), part[1].max(keepdims=True), part[2].all(keepdims=True)] for part in (old, new)
        )
    return [np.minimum(old[0], new[0]), np.maximum(old[1], new[1]), old[2] & new[2]]
