"""What compression does to the weights and activations of a Keras model, beside another one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import keras
import numpy as np

from tfcompress.evaluation.kernels import encodings_of, kernels_of, parts
from tfcompress.evaluation.layer_changes import (
    ActivationChange,
    Form,
    LayerChanges,
    TensorChange,
    batch_size_of,
    weight_change,
)
from tfcompress.evaluation.tensor_grid import TensorGrid
from tfcompress.graph.index import index_of
from tfcompress.parity.probing.model_tensors import flat, probes
from tfcompress.parity.probing.tensor_comparison import FloatComparison
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.numerics.grid import Grid


def model_changes(
    named: tuple[str, keras.Model], compared_with: tuple[str, keras.Model], inputs: Mapping[str, np.ndarray]
) -> LayerChanges:
    """Return what became of each layer.

    Args:
        named: the candidate's name, and the model.
        compared_with: likewise.
        inputs: a few samples, by input name.
    """
    (name, model), (reference, other) = named, compared_with
    weights = tuple(_weights(model, other))
    try:
        (samples, activations), problem = _activations(model, other, inputs), ""
    except Exception as error:  # whatever the user's own layers raise outside of `predict`
        samples, activations, problem = 0, (), f"{type(error).__name__}: {error}"
    return LayerChanges(name, reference, samples, weights, activations, problem)


def _of_grid(grid: Grid) -> TensorGrid:
    """Return the numbers that an activation's integers stand for."""
    return TensorGrid.of_scales(np.float32(grid.scale), grid.lowest - grid.zero_point, grid.highest - grid.zero_point)


def _weights(model: keras.Model, other: keras.Model) -> Iterator[TensorChange]:
    known = {(layer.name, kernel.label): kernel.value for layer, _ in parts(other) for kernel in kernels_of(layer)}
    for layer, _ in parts(model):
        encodings = encodings_of(layer)
        for kernel in kernels_of(layer):
            names = (layer.name, layer.name.removesuffix("_linear"), f"{layer.name}_linear")
            before = next((known[name, kernel.label] for name in names if (name, kernel.label) in known), None)
            if before is not None and before.shape != kernel.value.shape:
                before = None  # units were taken away
            form = Form(kernel.bits, TensorGrid.of_encoding(encodings.get(kernel.position)))
            yield weight_change((layer.name, kernel.label), before, kernel.value, form)


def _activations(
    model: keras.Model, other: keras.Model, inputs: Mapping[str, np.ndarray]
) -> tuple[int, tuple[TensorChange, ...]]:
    """Return how many samples were run, and what became of each activation."""
    opened = flat(model)
    found = probes(opened)
    pair = FloatComparison(opened, found, other)
    graph = index_of(opened)
    samples, size = batch_size_of(inputs, (probe.values for probe in found))
    kept: dict[int, ActivationChange] = {}
    for start in range(0, samples, size):
        for place, one, another in pair.run([x[start : min(start + size, samples)] for x in inputs.values()]):
            kept.setdefault(place, ActivationChange(samples)).add(one, another)
    changes = []
    for place, change in kept.items():
        probe = found[place]
        producer = graph.producer(probe.tensor)
        quantizer = producer.operation if producer else None
        grid = quantizer.grid if isinstance(quantizer, ActivationQuantizer) and not quantizer.spec.dynamic else None
        form = Form(grid.bits, _of_grid(grid)) if grid else Form(32, None)
        changes.append(change.change(probe.source, tuple(probe.tensor.shape[1:]), form))
    return samples, tuple(changes)
