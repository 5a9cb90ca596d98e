"""Layer by layer: what compression does to weights and activations."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from tfcompress.evaluation.tensor_grid import TensorGrid
from tfcompress.parity.probing.values import Values
from tfcompress.reports.histograms import Histogram, histogram

SAMPLES, LEAST = 32, 8
"""Of the data, that activations are looked at on; fewer of a large model, but not less than the second."""

VALUES = 20_000
"""Of a tensor, at most, that its histogram is made of."""

AT_ONCE = 1 << 22
"""Values of all activations together that a batch is made for."""


@dataclasses.dataclass(frozen=True)
class Spread:
    """Of a tensor the least and the largest value, and the share of zeros."""

    low: float
    high: float
    zeros: float


@dataclasses.dataclass(frozen=True)
class TensorChange:
    """One weight, or one activation, before and after.

    Attributes:
        layer: the layer's name; of a file's tensor that no layer is known of, its own.
        tensor: the kernel's name; "output" of an activation.
        shape: of a weight; of an activation without the batch.
        bits: of one number after compression.
        grid: the numbers that the quantized tensor can hold; None: it is float.
        before: of the model that it is compared with; None: that has no such tensor.
        after: of the compressed model.
        sqnr: variance of the tensor over the mean squared change, in dB; None: nothing changed, or it isn't known.
        histogram: None: nothing but zeros.
        dtype: what a file stores it as; empty: it isn't in a file.
        nbytes: that a weight takes in a file; None: it isn't in a file.
    """

    layer: str
    tensor: str
    shape: tuple[int | None, ...]
    bits: int
    grid: TensorGrid | None
    before: Spread | None
    after: Spread
    sqnr: float | None
    histogram: Histogram | None
    dtype: str = ""
    nbytes: int | None = None


@dataclasses.dataclass(frozen=True)
class LayerChanges:
    """A model or file beside a model, layer by layer.

    Attributes:
        model: the name of the candidate.
        reference: that of the one that it is compared with; None: there is no Keras model to compare it with.
        samples: that activations were computed of.
        weights: kernels, in the order of the model.
        activations: outputs of quantizers, or of the layers of a model without.
        problem: why there are no activations; empty where there are.
        note: what the reader should know of them beside.
    """

    model: str
    reference: str | None
    samples: int
    weights: tuple[TensorChange, ...]
    activations: tuple[TensorChange, ...]
    problem: str = ""
    note: str = ""


def spread_of(values: np.ndarray) -> Spread:
    """Return the ends of a tensor, and its share of zeros."""
    if not values.size:
        return Spread(0.0, 0.0, 0.0)
    return Spread(float(values.min()), float(values.max()), float(1 - np.count_nonzero(values) / values.size))


def some(values: np.ndarray, most: int = VALUES) -> np.ndarray:
    """Return at most `most` values, spread evenly over the tensor."""
    flat_values = values.ravel()
    return flat_values[:: -(-flat_values.size // most)] if flat_values.size > most else flat_values


def sqnr_of(before: np.ndarray, after: np.ndarray) -> float | None:
    """Return the variance of a tensor over the mean squared change, in dB; `None`: nothing changed."""
    values = Values(None)
    values.add(before, after)
    return values.sqnr


class Form(NamedTuple):
    """What a tensor is kept as; the fields are those of `TensorChange`."""

    bits: int
    grid: TensorGrid | None
    dtype: str = ""
    nbytes: int | None = None


def weight_change(named: tuple[str, str], before: np.ndarray | None, after: np.ndarray, form: Form) -> TensorChange:
    """Return what became of a weight.

    Args:
        named: the layer and the weight.
        before: None: there is nothing to compare it with.
        after: of the same shape.
        form: of `after`.
    """
    after = after.astype(np.float32)
    before = None if before is None else before.astype(np.float32)
    return TensorChange(
        *(*named, tuple(after.shape), form.bits, form.grid),
        before=None if before is None else spread_of(before),
        after=spread_of(after),
        sqnr=None if before is None else sqnr_of(before, after),
        histogram=histogram(np.zeros(0) if before is None else some(before), some(after)),
        dtype=form.dtype,
        nbytes=form.nbytes,
    )


class ActivationChange:
    """What becomes of an activation, summed up over batches.

    Args:
        samples: in all batches together.
    """

    def __init__(self, samples: int):
        self.samples = samples
        self.values = Values(None)
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
        self._spreads: list[tuple[Spread, Spread]] = []

    def add(self, before: np.ndarray, after: np.ndarray) -> None:
        """Add a batch."""
        most = max(1, VALUES * len(before) // self.samples)
        self.values.add(before, after)
        self._kept.append((some(before, most), some(after, most)))
        self._spreads.append((spread_of(before), spread_of(after)))

    def change(self, layer: str, shape: tuple[int | None, ...], form: Form) -> TensorChange:
        """Return it; the arguments are as of `TensorChange` and `weight_change`."""
        before, after = (_joined([pair[side] for pair in self._spreads]) for side in (0, 1))
        return TensorChange(
            *(layer, "output", shape, form.bits, form.grid),
            before=before,
            after=after,
            sqnr=self.values.sqnr,
            histogram=histogram(*(np.concatenate([pair[side] for pair in self._kept]) for side in (0, 1))),
            dtype=form.dtype,
        )


def batch_size_of(inputs: Mapping[str, np.ndarray], sizes: Iterable[int]) -> tuple[int, int]:
    """Return how many of the samples are looked at, and how many at once.

    Args:
        inputs: a few samples, by input name.
        sizes: how many values each activation of one sample has.
    """
    each = max(sum(sizes), 1)
    samples = min(len(next(iter(inputs.values()))), max(LEAST, LEAST * AT_ONCE // each))
    return samples, max(1, min(samples, AT_ONCE // each))


def _joined(spreads: list[Spread]) -> Spread:
    zeros = sum(one.zeros for one in spreads) / len(spreads)
    return Spread(min(one.low for one in spreads), max(one.high for one in spreads), zeros)
