"""Layer by layer: what compression does to the weights and activations of a Keras model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from tfcompress.evaluation.kernels import Kernel, kernels_of, parts
from tfcompress.graph.index import index_of
from tfcompress.parity.probing.model_tensors import flat, probes
from tfcompress.parity.probing.tensor_comparison import FloatComparison, Values
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.quantize import is_quantized
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
    """One kernel, or one activation, before and after.

    Attributes:
        layer: the layer's name.
        tensor: the kernel's name; "output" of an activation.
        shape: of a kernel; of an activation without the batch.
        bits: after compression.
        grid: the least and the largest number that the quantized tensor can hold; None: it is float, or each channel
            has its own.
        before: of the model that it is compared with; None: that has no such tensor.
        after: of the compressed model.
        sqnr: variance of the tensor over the mean squared change, in dB; None: nothing changed, or it isn't known.
        histogram: None: nothing but zeros, or nothing to compare with.
    """

    layer: str
    tensor: str
    shape: tuple[int | None, ...]
    bits: int
    grid: tuple[float, float] | None
    before: Spread | None
    after: Spread
    sqnr: float | None
    histogram: Histogram | None


@dataclasses.dataclass(frozen=True)
class LayerChanges:
    """A model beside another, layer by layer.

    Attributes:
        model: the name of the candidate.
        reference: that of the one that it is compared with.
        samples: that activations were computed of.
        weights: kernels, in the order of the model.
        activations: outputs of quantizers, or of the layers of a model without.
        problem: why there are no activations; empty where there are.
    """

    model: str
    reference: str
    samples: int
    weights: tuple[TensorChange, ...]
    activations: tuple[TensorChange, ...]
    problem: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class LayerSource:
    """What the layers are compared with, when a report is written.

    Attributes:
        models: {candidate: Keras model}.
        inputs: a few samples, by input name.
    """

    models: Mapping[str, keras.Model]
    inputs: Mapping[str, np.ndarray]

    def changes(self, baseline: str) -> tuple[LayerChanges, ...]:
        """Return the changes of each model to the baseline; where that is no Keras model, to the first float one."""
        floats = [name for name, model in self.models.items() if not is_quantized(model)]
        reference = baseline if baseline in self.models else next(iter(floats), None)
        if reference is None:
            return ()
        others = [name for name in self.models if name != reference]
        return tuple(self._changes(name, reference) for name in others)

    def _changes(self, name: str, reference: str) -> LayerChanges:
        model, other = self.models[name], self.models[reference]
        weights = tuple(_weights(model, other))
        try:
            (samples, activations), problem = _activations(model, other, self.inputs), ""
        except Exception as error:  # whatever the user's own layers raise outside of `predict`
            samples, activations, problem = 0, (), f"{type(error).__name__}: {error}"
        return LayerChanges(name, reference, samples, weights, activations, problem)


def _weights(model: keras.Model, other: keras.Model) -> Iterator[TensorChange]:
    known = {(layer.name, kernel.label): kernel.value for layer, _ in parts(other) for kernel in kernels_of(layer)}
    for layer, _ in parts(model):
        for kernel in kernels_of(layer):
            names = (layer.name, layer.name.removesuffix("_linear"), f"{layer.name}_linear")
            before = next((known[name, kernel.label] for name in names if (name, kernel.label) in known), None)
            if before is not None and before.shape != kernel.value.shape:
                before = None  # units were taken away
            yield _change(layer.name, kernel, before)


def _change(layer: str, kernel: Kernel, before: np.ndarray | None) -> TensorChange:
    after = kernel.value.astype(np.float32)
    values = Values(None)
    shown = None
    if before is not None:
        before = before.astype(np.float32)
        values.add(before, after)
        shown = histogram(_some(before), _some(after))
    start = None if before is None else _spread(before)
    how = (layer, kernel.label, tuple(after.shape), kernel.bits, None)
    return TensorChange(*how, start, _spread(after), values.sqnr, shown)


def _activations(
    model: keras.Model, other: keras.Model, inputs: Mapping[str, np.ndarray]
) -> tuple[int, tuple[TensorChange, ...]]:
    """Return how many samples were run, and what became of each activation."""
    changes = []
    opened = flat(model)
    found = probes(opened)
    pair = FloatComparison(opened, found, other)
    graph = index_of(opened)
    sizes = [int(np.prod([size or 1 for size in probe.tensor.shape[1:]])) for probe in found]
    room = max(LEAST, LEAST * AT_ONCE // max(sum(sizes), 1))
    samples = min(len(next(iter(inputs.values()))), room)
    batch = max(1, min(samples, AT_ONCE // max(sum(sizes), 1)))
    kept: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    spreads: dict[int, list[tuple[Spread, Spread]]] = {}
    for start in range(0, samples, batch):
        for place, one, another in pair.run([value[start : min(start + batch, samples)] for value in inputs.values()]):
            most = max(1, VALUES * batch // samples)
            kept.setdefault(place, []).append((_some(one, most), _some(another, most)))
            spreads.setdefault(place, []).append((_spread(one), _spread(another)))
    for place, both in kept.items():
        probe = found[place]
        producer = graph.producer(probe.tensor)
        quantizer = producer.operation if producer else None
        grid = quantizer.grid if isinstance(quantizer, ActivationQuantizer) and not quantizer.spec.dynamic else None
        before, after = (_joined([pair_of[side] for pair_of in spreads[place]]) for side in (0, 1))
        change = TensorChange(
            probe.source,
            "output",
            tuple(probe.tensor.shape[1:]),
            grid.bits if grid else 32,
            (float(grid.minimum), float(grid.maximum)) if grid else None,
            before,
            after,
            pair.sqnr(place),
            histogram(*(np.concatenate([part[side] for part in both]) for side in (0, 1))),
        )
        changes.append(change)
    return samples, tuple(changes)


def _some(values: np.ndarray, most: int = VALUES) -> np.ndarray:
    """Return at most `most` values, spread evenly over the tensor."""
    flat_values = values.ravel()
    return flat_values[:: -(-flat_values.size // most)] if flat_values.size > most else flat_values


def _spread(values: np.ndarray) -> Spread:
    if not values.size:
        return Spread(0.0, 0.0, 0.0)
    return Spread(float(values.min()), float(values.max()), float(1 - np.count_nonzero(values) / values.size))


def _joined(spreads: list[Spread]) -> Spread:
    zeros = sum(one.zeros for one in spreads) / len(spreads)
    return Spread(min(one.low for one in spreads), max(one.high for one in spreads), zeros)
