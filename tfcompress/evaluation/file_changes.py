"""What a `.tflite` or `.onnx` file has made of the weights and activations of a Keras model."""

from __future__ import annotations

import collections
import functools
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tfcompress.core.uneven_rows import cut
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
from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.graph.recursion_limit import functional
from tfcompress.graph.rewrite import calls_forgotten
from tfcompress.parity.debug import batches_for_both
from tfcompress.parity.pairing import pair
from tfcompress.parity.probing.axis_order import laid_alike
from tfcompress.parity.probing.file_tensors import FileTensor, open_observer
from tfcompress.parity.probing.model_tensors import flat
from tfcompress.parity.probing.tensor_comparison import FloatComparison, outputs_of
from tfcompress.parity.probing.value_comparison import ValueComparison
from tfcompress.quantization.graph.batch_norm_folding import fold_batch_norms
from tfcompress.quantization.graph.decompose import lower
from tfcompress.quantization.quantize import is_quantized
from tfcompress.runtime.integer_io import predict
from tfcompress.runtime.opening import open_runner
from tfcompress.runtime.runner import Runner, format_of
from tfcompress.tracing.signature import read_signature

NAMED, NAMELESS = 0.3, 0.6
"""Cosine from which on a weight is taken for a layer's: where its name says so, and by its values alone."""

SAME, FOLDED = 0.95, (1.1, 3.0)
"""By which factor a kernel of a file is larger or smaller from which on one is folded into it: where it is else the
same, up to rounding, as this cosine says; and where it isn't."""

NAMELESS_WEIGHT = "(no name)"
"""What a weight is called that neither a name nor its values tell the layer of."""

SAMPLES = 8
"""That the Keras model which a file was made from is known by."""


class _Kernel(NamedTuple):
    layer: str
    label: str
    value: np.ndarray


class KerasSide:
    """A Keras model that files are compared with.

    Args:
        name: of the candidate.
        model: built.
    """

    def __init__(self, name: str, model: keras.Model):
        self.name, self.model = name, model

    @functools.cached_property
    def plain(self) -> keras.Model:
        """The model without wrappers."""
        return strip(self.model) if wrapped_layers(self.model) else self.model

    @functools.cached_property
    def graph(self) -> keras.Model:
        """The model as one graph; of a float one, activations are layers of their own."""
        if is_quantized(self.model):
            return flat(self.model)
        return lower(opened(self.plain, check=False)).model()

    @functools.cached_property
    def ends(self) -> keras.Model:
        """The graph from inputs to outputs, each in a list."""
        return functional(graph_of(self.graph).inputs, list(self.graph.outputs))

    @functools.cached_property
    def kernels(self) -> list[_Kernel]:
        """The kernels of a float model, as the layers have them, and with batch normalization folded into them."""
        try:
            return [*_kernels(self.plain), *_kernels(fold_batch_norms(self.plain))]
        except (TypeError, ValueError):  # it can't be opened into one graph
            return _kernels(self.model)


def file_changes(
    named: tuple[str, str | os.PathLike[str]],
    reference: KerasSide | None,
    sides: Sequence[KerasSide],
    inputs: Mapping[str, np.ndarray],
) -> LayerChanges:
    """Return what the weights and activations of a file are, and what those of a float Keras model were.

    Args:
        named: the candidate's name, and the path.
        reference: the float model; None: there is none.
        sides: all Keras models, the reference too: the file was made from one of them, perhaps.
        inputs: a few samples, by input name of the models.
    """
    name, file = named[0], pathlib.Path(named[1])
    found = (tflite_constants if format_of(file) == "tflite" else onnx_weights).weights(file)
    if reference is None:
        problem = "there is no float Keras model to compare them with."
        return LayerChanges(name, None, 0, tuple(_weights(found, [])), (), problem)
    weights = tuple(_weights(found, reference.kernels))
    try:
        samples, activations, note = _activations(reference, sides, file, inputs)
    except Exception as error:  # whatever a runtime or the user's own layers raise
        return LayerChanges(name, reference.name, 0, weights, (), f"{type(error).__name__}: {error}")
    return LayerChanges(name, reference.name, samples, weights, activations, note=note)


def _kernels(model: keras.Model) -> list[_Kernel]:
    return [_Kernel(layer.name, one.label, one.value) for layer, _ in parts(model) for one in kernels_of(layer)]


def _weights(found: Iterator[FileWeight], kernels: Sequence[_Kernel]) -> Iterator[TensorChange]:
    """Yield what became of each weight, in the order of the model, and last what no layer is known of."""
    by_size: dict[int, list[_Kernel]] = collections.defaultdict(list)
    for kernel in kernels:
        by_size[kernel.value.size].append(kernel)
    known = frozenset(name for kernel in kernels for name in (kernel.layer, f"{kernel.layer}_linear"))
    order = {kernel[:2]: place for place, kernel in enumerate(kernels)}
    changes = []
    for weight in found:
        named = [each for name in layers_in(weight.names, known) for each in (name, name.removesuffix("_linear"))]
        match = _match(weight, by_size[weight.values.size], named)
        form = Form(_bits(weight.dtype), weight.grid, weight.dtype, weight.nbytes)
        if match is None:
            layer = named[0] if named else next(filter(None, reversed(weight.names)), NAMELESS_WEIGHT)
            changes.append((len(order), weight_change((layer, "kernel"), None, weight.values, form)))
        else:
            kernel, laid = match
            place = order[kernel.layer, kernel.label]
            changes.append((place, weight_change((kernel.layer, kernel.label), kernel.value, laid, form)))
    yield from (change for _, change in sorted(changes, key=lambda one: one[0]))


def _match(weight: FileWeight, kernels: Sequence[_Kernel], named: Sequence[str]) -> tuple[_Kernel, np.ndarray] | None:
    """Return the kernel that a weight was, and the weight laid as that is; `None`: none that is known."""
    best = None
    for kernel in kernels:
        reference = kernel.value.astype(np.float32)
        laid = laid_alike(weight.values, reference, joined=True)
        if laid is None:
            continue
        if _cosine(reference, laid[1]) < (NAMED if kernel.layer in named else NAMELESS):
            continue
        reference = reference * _factor(reference, laid[1])
        sqnr = sqnr_of(reference, laid[1])
        likeness = np.inf if sqnr is None else sqnr
        if best is None or likeness > best[0]:
            best = (likeness, _Kernel(kernel.layer, kernel.label, reference), laid[1])
    return best and best[1:]


def _factor(before: np.ndarray, after: np.ndarray) -> float:
    """Return what a converter has multiplied a kernel by: a rescaling in front of it is folded in, too; else 1."""
    energy = float(np.vdot(before, before))
    factor = float(np.vdot(before, after)) / energy if energy else 1.0
    clear = FOLDED[0] if _cosine(before, after) > SAME else FOLDED[1]
    return 1.0 if 1 / clear < factor < clear else factor


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(np.vdot(one, other)) / lengths if lengths else float(not one.any() and not other.any())


def _activations(
    reference: KerasSide, sides: Sequence[KerasSide], path: pathlib.Path, inputs: Mapping[str, np.ndarray]
) -> tuple[int, tuple[TensorChange, ...], str]:
    """Return how many samples were run, what each tensor became that the file has, too, and how many these are."""
    signature = read_signature(reference.model).inputs
    runner = open_runner(path)
    names = pair(signature, runner.input_specs, "input", path)
    if set(inputs) != set(signature):  # tensors may be called otherwise than the layers that they come from
        inputs = dict(zip(signature, inputs.values(), strict=True))
    side = _most_alike(runner, names, reference, sides, inputs)
    with calls_forgotten(side.graph):
        comparison = ValueComparison(side.graph, open_observer(path))
        floats = None if side is reference else FloatComparison(side.graph, comparison.probes, reference.model)
        samples, size = batch_size_of(inputs, (probe.values for probe in comparison.probes))
        changes: dict[int, ActivationChange] = {}
        for batch in stream({name: x[:samples] for name, x in inputs.items()}, signature, size):
            parts_of_both = list(batches_for_both(cut(batch, runner.batch_size or size), runner, names))
            ours = [np.concatenate([full[name] for _, full, _ in parts_of_both]) for name in batch]
            before = {} if floats is None else {place: one for place, one, _ in floats.run(ours)}
            for place, own, other in comparison.run(ours, [given for _, _, given in parts_of_both]):
                if floats is None or place in before:
                    changes.setdefault(place, ActivationChange(samples)).add(before.get(place, own), other)
    found = []
    for place, change in sorted(changes.items()):
        probe, tensor = comparison.probes[place], comparison.tensors[place]
        tensor = comparison.observer.rounded.get(tensor.key, tensor)
        form = Form(_bits(tensor.dtype), _grid(tensor), tensor.dtype)
        found.append(change.change(probe.source, tuple(probe.tensor.shape[1:]), form))
    return samples, tuple(found), f"{len(found)} of {len(comparison.probes)} tensors of {side.name} are in the file."


def _most_alike(
    runner: Runner,
    names: Mapping[str, str],
    reference: KerasSide,
    sides: Sequence[KerasSide],
    inputs: Mapping[str, np.ndarray],
) -> KerasSide:
    """Return the Keras model whose outputs are most like those of a file: the one that this was made from."""
    if len(sides) < 2:
        return reference
    few = {name: x[:SAMPLES] for name, x in inputs.items()}
    theirs = _joined(predict(runner, {names[name]: x for name, x in few.items()}))
    likeness = {}
    for side in sides:
        try:
            ours = _joined(outputs_of(side.ends, list(few.values())))
        except (TypeError, ValueError):  # it can't be opened into one graph
            continue
        if ours.shape == theirs.shape:
            sqnr = sqnr_of(ours, theirs)
            likeness[side.name] = np.inf if sqnr is None else sqnr
    return max(sides, key=lambda side: (likeness.get(side.name, -np.inf), side is reference))


def _joined(outputs: Any) -> np.ndarray:
    """Return all values of one or several outputs."""
    return np.concatenate([np.asarray(one, np.float64).ravel() for one in keras.tree.flatten(outputs)])


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
