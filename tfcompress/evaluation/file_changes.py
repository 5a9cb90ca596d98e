"""What a `.tflite` or `.onnx` file has made of the weights and activations of a Keras model."""

from __future__ import annotations

import collections
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np

from tfcompress.core.wrapper import wrapped_layers
from tfcompress.data.named_batches import stream
from tfcompress.evaluation import onnx_weights, tflite_constants
from tfcompress.evaluation.file_weight import FileWeight
from tfcompress.evaluation.kernels import kernels_of, parts
from tfcompress.evaluation.layer_changes import (
    ActivationChange,
    Form,
    LayerChanges,
    TensorChange,
    batch_size_of,
    sqnr_of,
    weight_change,
)
from tfcompress.evaluation.tensor_grid import TensorGrid
from tfcompress.export.plan.file_check import layers_in
from tfcompress.graph import strip
from tfcompress.graph.flatten import opened
from tfcompress.graph.rewrite import calls_forgotten
from tfcompress.parity.debug import batches_for_both
from tfcompress.parity.probing.axis_order import laid_alike
from tfcompress.parity.probing.file_tensors import FileTensor, open_observer
from tfcompress.parity.probing.float_file_comparison import FloatFileComparison
from tfcompress.parity.verify import pair
from tfcompress.quantization.graph.batch_norm_folding import fold_batch_norms
from tfcompress.quantization.graph.decompose import lower
from tfcompress.runtime.opening import open_runner
from tfcompress.runtime.runner import format_of
from tfcompress.tracing.signature import read_signature

ALIKE = 3.0
"""dB from which on a weight is taken for a layer's by its values alone: those of two layers differ by -3."""

UNLIKE = 0.0
"""dB below which a weight isn't a layer's as the layer has it, whatever its name: gates stand in another order."""


class _Kernel(NamedTuple):
    layer: str
    label: str
    value: np.ndarray


class FloatReference:
    """A float Keras model that files are compared with.

    Args:
        name: of the candidate.
        model: built.

    Attributes:
        kernels: as the layers have them, and as they are with batch normalization folded into them.
        known: the names of all layers.
        flat: the model as one graph, activations apart; None: it can't be opened into one.
        problem: why it can't be.
    """

    def __init__(self, name: str, model: keras.Model):
        self.name, self.problem = name, ""
        self.flat: keras.Model | None = None
        try:
            plain = strip(model) if wrapped_layers(model) else model
            self.kernels = [*_kernels(plain), *_kernels(fold_batch_norms(plain))]
            self.flat = lower(opened(plain, check=False)).model()
        except (TypeError, ValueError) as error:
            self.kernels, self.problem = _kernels(model), str(error)
        self.known = {kernel.layer for kernel in self.kernels}
        self.known |= {operation.name for operation in self.flat.operations} if self.flat else set()


def file_changes(
    name: str, path: str | os.PathLike[str], reference: FloatReference | None, inputs: Mapping[str, np.ndarray]
) -> LayerChanges:
    """Return what the weights and activations of a file are, and what those of a float Keras model were.

    Args:
        name: of the candidate.
        path: of the file.
        reference: None: there is no float model.
        inputs: a few samples, by input name of the model.
    """
    file = pathlib.Path(path)
    found = (tflite_constants if format_of(file) == "tflite" else onnx_weights).weights(file)
    if reference is None:
        problem = "there is no float Keras model to compare them with."
        return LayerChanges(name, None, 0, tuple(_weights(found, [], set())), (), problem)
    weights = tuple(_weights(found, reference.kernels, reference.known))
    samples, problem = 0, reference.problem
    activations: tuple[TensorChange, ...] = ()
    if reference.flat is not None:
        try:
            samples, activations = _activations(reference.flat, file, inputs)
        except Exception as error:  # whatever a runtime or the user's own layers raise
            problem = f"{type(error).__name__}: {error}"
    return LayerChanges(name, reference.name, samples, weights, activations, problem)


def _kernels(model: keras.Model) -> list[_Kernel]:
    return [_Kernel(layer.name, one.label, one.value) for layer, _ in parts(model) for one in kernels_of(layer)]


def _weights(found: Iterator[FileWeight], kernels: Sequence[_Kernel], known: set[str]) -> Iterator[TensorChange]:
    """Yield what became of each weight, in the order of the model, and last what no layer is known of."""
    by_size: dict[int, list[_Kernel]] = collections.defaultdict(list)
    for kernel in kernels:
        by_size[kernel.value.size].append(kernel)
    order = {kernel[:2]: place for place, kernel in enumerate(kernels)}
    changes = []
    for weight in found:
        named = list(dict.fromkeys(layers_in(weight.names, frozenset(known))))
        match = _match(weight, by_size[weight.values.size], named)
        form = Form(_bits(weight.dtype), weight.grid, weight.dtype, weight.nbytes)
        if match is None:
            layer = named[0] if named else weight.names[-1]
            changes.append((len(order), weight_change((layer, "kernel"), None, weight.values, form)))
        else:
            kernel, laid = match
            place = order[kernel.layer, kernel.label]
            changes.append((place, weight_change((kernel.layer, kernel.label), kernel.value, laid, form)))
    yield from (change for _, change in sorted(changes, key=lambda one: one[0]))


def _match(weight: FileWeight, kernels: Sequence[_Kernel], named: Sequence[str]) -> tuple[_Kernel, np.ndarray] | None:
    """Return the kernel that a weight was, and the weight laid as that is; `None`: none that is known."""
    layers = {each for name in named for each in (name, name.removesuffix("_linear"), f"{name}_linear")}
    best = None
    for kernel in kernels:
        reference = kernel.value.astype(np.float32)
        laid = laid_alike(weight.values, reference)
        if laid is None:
            continue
        sqnr = sqnr_of(reference, laid[1])
        likeness = np.inf if sqnr is None else sqnr
        if likeness >= (UNLIKE if kernel.layer in layers else ALIKE) and (best is None or likeness > best[0]):
            best = (likeness, kernel, laid[1])
    return best and best[1:]


def _activations(
    model: keras.Model, path: pathlib.Path, inputs: Mapping[str, np.ndarray]
) -> tuple[int, tuple[TensorChange, ...]]:
    """Return how many samples were run, and what each tensor of the model became that the file has, too."""
    signature = read_signature(model).inputs
    runner = open_runner(path)
    names = pair(signature, runner.input_specs, "input", path)
    with calls_forgotten(model):
        comparison = FloatFileComparison(model, open_observer(path))
        samples, size = batch_size_of(inputs, (probe.values for probe in comparison.probes))
        given = stream({name: x[:samples] for name, x in inputs.items()}, signature, runner.batch_size or size)
        changes: dict[int, ActivationChange] = {}
        for _, full, of_file in batches_for_both(given, runner, names):
            for place, one, other in comparison.run(list(full.values()), of_file):
                changes.setdefault(place, ActivationChange(samples)).add(one, other)
    found = []
    for place, change in changes.items():
        probe, tensor = comparison.probes[place], comparison.tensors[place]
        tensor = comparison.observer.rounded.get(tensor.key, tensor)
        form = Form(_bits(tensor.dtype), _grid(tensor), tensor.dtype)
        found.append(change.change(probe.source, tuple(probe.tensor.shape[1:]), form))
    return samples, tuple(found)


def _grid(tensor: FileTensor) -> TensorGrid | None:
    if tensor.scale is None:
        return None
    ends = np.iinfo(tensor.dtype)
    return TensorGrid.of_scales(np.float32(tensor.scale), ends.min - tensor.zero_point, ends.max - tensor.zero_point)


def _bits(dtype: str) -> int:
    """Return how many bits a number of a dtype takes.

    >>> _bits("int4"), _bits("bfloat16"), _bits("float8e4m3fn")
    (4, 16, 8)
    """
    digits = re.search(r"\d+", dtype)
    return int(digits.group()) if digits else 8
