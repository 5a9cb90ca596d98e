"""How much of its values a channel keeps on the one grid that a tensor has for all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.replicas import predict_on_batch
from tfcompress.data.model_batches import batches, last_is_smaller
from tfcompress.graph.recursion_limit import functional
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
    model: keras.Model, groups: Sequence[Sequence[Any]], specs: Sequence[ActivationSpec], data: Any, batch_size: int
) -> list[Spread]:
    """Return what calibration data puts into the channels of tensors.

    The data runs through the float model once; a second time, for what rounding changes, only if a channel spans
    few integers. Of each channel a handful of numbers is kept, however much data there is.

    Args:
        model: A functional model.
        groups: Its symbolic tensors, those that share a grid together; their channels, the last axes, are counted
            on from one to the next.
        specs: How those of each group are quantized.
        data: As `calibrate` takes it.
        batch_size: Samples in a batch, where `data` holds arrays.
    """
    flat = [x for group in groups for x in group]
    if not flat:
        return []
    ends = _stream(model, [_Ends()(x) for x in flat], data, batch_size, _merge_ends)
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
        _Moments(*grid, one.mean(0), spec)(x) for grid, one, spec, x in zip(grids, ends, of_each, flat, strict=True)
    ]
    sums = _stream(model, watched, data, batch_size, np.add)
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


def _stream(model: keras.Model, outputs: list[Any], data: Any, batch_size: int, merge: Any) -> list[np.ndarray]:
    watching = functional(model.inputs, outputs)
    total: list[np.ndarray] | None = None
    any_size = last_is_smaller(model, data, batch_size)
    with beginning(watching):
        for batch in batches(model, data, batch_size):
            with steps_at_once(watching):
                made = predict_on_batch(watching, batch, any_size=any_size)
            parts = [np.asarray(part, np.float64) for part in (made if isinstance(made, list | tuple) else [made])]
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


class _PerChannel(keras.layers.Layer):
    """What is computed of each channel of a tensor: rows of numbers, a column for each channel."""

    rows = 2
    several = True

    def __init__(self) -> None:
        super().__init__(dtype="float32")
        self.supports_masking = True  # it looks past a mask, and passes none on

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        return None

    def columns(self, inputs: Any) -> Any:
        return ops.reshape(ops.cast(inputs, "float32"), (-1, self.count(inputs)))

    def count(self, inputs: Any) -> int:
        """Return how many channels there are; if that is free, one for all."""
        return (inputs.shape[-1] or 1) if self.several else 1

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        self.several = len(inputs.shape) > 1 and inputs.shape[-1] is not None
        return keras.KerasTensor((self.rows, self.count(inputs)), "float32")


class _Ends(_PerChannel):
    def call(self, inputs: Any) -> Any:
        x = self.columns(inputs)
        return ops.stack([ops.min(x, axis=0), ops.max(x, axis=0)])


class _Moments(_PerChannel):
    rows = 5

    def __init__(self, low: float, high: float, centre: np.ndarray, spec: ActivationSpec):
        super().__init__()
        self.ends, self.centre, self.spec = _range(low, high, spec), centre.astype("float32"), spec

    def call(self, inputs: Any) -> Any:
        x = self.columns(inputs)
        low, high = (np.float32(end) for end in self.ends)
        error = fake_quant(x, low, high, bits=self.spec.bits, narrow=self.spec.symmetric) - x
        x = x - self.centre  # else the square of a large mean would exceed the variance by more than float32 resolves
        parts = [ops.ones_like(x), x, ops.square(x), error, ops.square(error)]
        return ops.stack([ops.sum(part, axis=0) for part in parts])
