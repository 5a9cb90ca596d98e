"""How much of its values a channel keeps on the one grid that a tensor has for all of them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.replicas import predict_on_batch
from tfcompress.data.model_batches import batches, last_is_smaller
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.stateful_layers import beginning
from tfcompress.graph.time_distributed import steps_at_once
from tfcompress.quantization.numerics.fake_quant import fake_quant
from tfcompress.quantization.quantize_config import ActivationSpec

FEW = 16
"""Steps: a channel that spans fewer may lose what it says; one of so many has an error of a sixteenth of itself.

So many of 8 bits are also a sixteenth of the grid: with fewer bits no channel has many, and that is not for its size.
"""


def few(spec: ActivationSpec) -> float:
    """Return how many integers are few.

    >>> few(ActivationSpec(bits=16)), few(ActivationSpec(bits=4))
    (16.0, 0.9375)
    """
    return min(float(FEW), (2**spec.bits - 1) / FEW)


@dataclasses.dataclass(frozen=True)
class Spread:
    """What there is in each channel of tensors that share one grid.

    Attributes:
        scale: Of the grid.
        few: How many of them are few.
        low: The least value of each channel.
        high: The largest.
        deviation: The standard deviation of each channel's values.
        error: That of what rounding to the grid changes in them.
    """

    scale: float
    few: float
    low: np.ndarray
    high: np.ndarray
    deviation: np.ndarray
    error: np.ndarray

    @property
    def levels(self) -> np.ndarray:
        """How many integers of the grid each channel spans."""
        return (self.high - self.low) / self.scale

    @classmethod
    def of_uniform(cls, low: np.ndarray, high: np.ndarray, deviation: np.ndarray, spec: ActivationSpec) -> Spread:
        """Return what to expect of channels of which only the ends and the deviation are known."""
        scale = _scale(float(low.min()), float(high.max()), spec)
        return cls(scale, few(spec), low, high, deviation, np.minimum(deviation, scale / np.sqrt(12)))


def measure(
    graph: FlatGraph, groups: Sequence[Sequence[Any]], specs: Sequence[ActivationSpec], data: Any, batch_size: int
) -> list[Spread]:
    """Return what calibration data puts into the channels of tensors.

    The data runs through the float graph once; a second time, for what rounding changes, only if a channel spans
    few integers. Of each channel a handful of numbers is kept, however much data there is.

    Args:
        graph: Any.
        groups: Its symbolic tensors, those that share a grid together; their channels, the last axes, are counted
            on from one to the next.
        specs: How those of each group are quantized.
        data: As `calibrate` takes it.
        batch_size: Samples in a batch, where `data` holds arrays.
    """
    flat = [x for group in groups for x in group]
    if not flat:
        return []
    ends = _stream(graph, [(x, _ends) for x in flat], data, batch_size, _merge_ends)
    if not all(np.isfinite(one).all() for one in ends):  # calibration says whose they are
        ends = [np.nan_to_num(one, nan=0.0, posinf=0.0, neginf=0.0) for one in ends]
    found = []
    places = iter(range(len(flat)))
    grids: list[tuple[float, float]] = []
    for group in groups:
        low, high = np.concatenate([ends[next(places)] for _ in group], axis=1)
        found.append((low, high))
        grids += [(float(low.min()), float(high.max()))] * len(group)
    scales = [_scale(low.min(), high.max(), spec) for (low, high), spec in zip(found, specs, strict=True)]
    if not any(_has_few(*ends, few(spec) * scale) for ends, scale, spec in zip(found, scales, specs, strict=True)):
        none = [np.zeros_like(low) for low, _ in found]
        parts = zip(scales, specs, found, none, strict=True)
        return [Spread(scale, few(spec), *ends, ends[1] - ends[0], error) for scale, spec, ends, error in parts]
    of_each = [spec for group, spec in zip(groups, specs, strict=True) for _ in group]
    watched = [
        (x, functools.partial(_moments, _range(*grid, spec), one.mean(0), spec))
        for grid, one, spec, x in zip(grids, ends, of_each, flat, strict=True)
    ]
    sums = _stream(graph, watched, data, batch_size, np.add)
    places = iter(range(len(flat)))
    spreads = []
    for group, (low, high), scale, spec in zip(groups, found, scales, specs, strict=True):
        count, x, xx, e, ee = np.concatenate([sums[next(places)] for _ in group], axis=1)
        deviation, error = (_deviation(one / count, square / count) for one, square in ((x, xx), (e, ee)))
        spreads.append(Spread(scale, few(spec), low, high, np.where(high > low, deviation, 0), error))
    return spreads


def _has_few(low: np.ndarray, high: np.ndarray, width: float) -> bool:
    return bool(np.any((high > low) & (high - low < width)))


def _deviation(mean: np.ndarray, square: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.maximum(square - mean**2, 0)))


class _Watching(keras.Model):
    """Runs a graph as far as some of its tensors, and gives what is computed of them; it adds nothing to the graph."""

    def __init__(self, graph: FlatGraph, watched: Sequence[tuple[Any, Callable[[Any], Any]]]):
        super().__init__(name=graph.name, autocast=False)
        self.graph, self.watched = graph, watched
        self.parts = graph.layers  # so that Keras knows of their variables

    def call(self, inputs: Any) -> list[Any]:
        values = self.graph.run(inputs, [x for x, _ in self.watched])
        return [look(value) for (_, look), value in zip(self.watched, values, strict=True)]


def _stream(
    graph: FlatGraph, watched: Sequence[tuple[Any, Callable[[Any], Any]]], data: Any, batch_size: int, merge: Any
) -> list[np.ndarray]:
    watching = _Watching(graph, watched)
    total: list[np.ndarray] | None = None
    any_size = last_is_smaller(graph, data, batch_size)
    with beginning(watching):
        for batch in batches(graph, data, batch_size):
            with steps_at_once(watching):
                made = predict_on_batch(watching, batch, any_size=any_size)
            parts = [np.asarray(part, np.float64) for part in made]
            total = parts if total is None else [merge(old, new) for old, new in zip(total, parts, strict=True)]
    assert total is not None
    return total


def _merge_ends(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    return np.stack([np.minimum(old[0], new[0]), np.maximum(old[1], new[1])])


def _range(low: float, high: float, spec: ActivationSpec) -> tuple[float, float]:
    low, high = min(low, 0.0), max(high, 0.0)
    limit = max(-low, high)
    return (-limit, limit) if spec.symmetric else (low, high)


def _scale(low: float, high: float, spec: ActivationSpec) -> float:
    return float(spec.scale(*_range(low, high, spec))) or 1.0


def _columns(x: Any) -> Any:
    """Return a tensor with a column for each channel; one for all where there are none, or their number is free."""
    channels = (x.shape[-1] or 1) if len(x.shape) > 1 else 1
    return ops.reshape(ops.cast(x, "float32"), (-1, channels))


def _ends(x: Any) -> Any:
    x = _columns(x)
    return ops.stack([ops.min(x, axis=0), ops.max(x, axis=0)])


def _moments(ends: tuple[float, float], centre: np.ndarray, spec: ActivationSpec, x: Any) -> Any:
    x = _columns(x)
    low, high = (np.float32(end) for end in ends)
    error = fake_quant(x, low, high, bits=spec.bits, narrow=spec.symmetric) - x
    x = x - centre.astype(
        "float32"
    )  # else the square of a large mean would exceed the variance by more than float32 resolves
    parts = [ops.ones_like(x), x, ops.square(x), error, ops.square(error)]
    return ops.stack([ops.sum(part, axis=0) for part in parts])
