"""A Keras model and a file side by side: how far apart they are, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.wrapper import wrapped_layers
from tfcompress.graph import strip
from tfcompress.graph.flatten import opened
from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.graph.naming import free
from tfcompress.graph.recursion_limit import functional
from tfcompress.graph.rewrite import calls
from tfcompress.parity.probing.axis_order import in_order, laid_alike
from tfcompress.parity.probing.file_tensors import FileTensor, Observer
from tfcompress.parity.probing.model_tensors import Probe, probes
from tfcompress.parity.probing.tensor_matching import Candidates, match
from tfcompress.parity.probing.values import Values
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.graph.decompose import lower
from tfcompress.quantization.quantize import is_quantized
from tfcompress.tracing.float32_view import float32_view

ALIKE = 20.0
"""dB from which on a tensor is taken for the one that is sought, whatever its place in the file."""


class Comparison:
    """A flat model beside a file: both on the same inputs, and each part of the model on the file's own tensors.

    In the second comparison every difference is of one layer's making: what differs before it counts for nothing.

    Args:
        model: flat.
        observer: the file.
        single: whether the file takes one sample at a time, of which Keras can take several.
    """

    def __init__(self, model: keras.Model, observer: Observer, single: bool = False):
        self.model, self.observer = model, observer
        self.probes = probes(model)
        tensors = (*graph_of(model).inputs, *(probe.tensor for probe in self.probes))
        self.joins = single and all(tuple(x.shape[:1]) == (None,) for x in tensors)
        """Whether several batches of the file, of a sample each, may be one of Keras'."""
        self._mixed: bool | None = None
        self.candidates = match(self.probes, observer, {operation.name for operation in model.operations})
        self.tensors: list[FileTensor | None] = [None] * len(self.probes)
        self.whole = [Values(probe.scale) for probe in self.probes]
        self.own = [Values(probe.scale) for probe in self.probes]
        self.outputs: list[dict[str, np.ndarray]] = []
        """Of the file, by name, for each of the batches that were added last."""
        self._found = [place for place, candidates in enumerate(self.candidates) if candidates.tensors]
        self._forward = functional(graph_of(model).inputs, [self.probes[place].tensor for place in self._found])
        self._order: dict[tuple[int, Any], tuple[int, ...] | None] = {}
        self._local: keras.Model | None = None
        self._fed: list[int] = []

    def add(self, keras_inputs: Sequence[Any], file_inputs: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Run both on a batch.

        Args:
            keras_inputs: in the order of the model's.
            file_inputs: the same samples by the names of the file's inputs, in its dtypes, in as many batches as the
                file takes them in: one, unless `joins`.
        """
        if len(file_inputs) > 1 and self._mixes(keras_inputs, len(file_inputs)):
            outputs = []
            for place, batch in enumerate(file_inputs):
                self.add([x[place : place + 1] for x in keras_inputs], [batch])
                outputs += self.outputs
            self.outputs = outputs
            return
        wanted = [tensor for place in self._found for tensor in self.candidates[place].tensors]
        wanted = list({tensor.key: tensor for tensor in [*wanted, *self.observer.outputs.values()]}.values())
        runs = [self.observer.run(batch, wanted) for batch in file_inputs]
        places = {tensor.key: place for place, tensor in enumerate(wanted)}
        self.outputs = [{name: run[places[x.key]] for name, x in self.observer.outputs.items()} for run in runs]
        received = together(wanted, runs, file_inputs[0] if self.joins else None)
        ours = dict(zip(self._found, outputs_of(self._forward, keras_inputs), strict=True))
        if self._local is None:
            for place in self._found:
                self.tensors[place] = self._choose(place, ours[place], received)
            self._settle(keras_inputs, ours, received)
        theirs, own = self._beside(keras_inputs, ours, received)
        for place, laid in theirs.items():
            self.whole[place].add(ours[place], laid)
            self.own[place].add(own[place], laid)

    def _mixes(self, keras_inputs: Sequence[Any], count: int) -> bool:
        """Return whether what Keras computes of the last of some samples depends on the others."""
        if self._mixed is None:
            every = outputs_of(self._forward, keras_inputs)
            alone = outputs_of(self._forward, [x[-1:] for x in keras_inputs])
            pairs = zip(every, alone, strict=True)
            self._mixed = any(len(x) != count * len(one) or not _alike(x[-len(one) :], one) for x, one in pairs)
        return self._mixed

    def _beside(
        self, keras_inputs: Sequence[Any], ours: Mapping[int, np.ndarray], received: Mapping[Any, np.ndarray]
    ) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        """Return the file's tensors laid as Keras has them, and what Keras computes from those before each."""
        assert self._local is not None
        theirs: dict[int, np.ndarray] = {}
        for place in self._found:
            tensor = self.tensors[place]
            assert tensor is not None
            laid = self._lay(place, tensor, ours[place], received[tensor.key])
            assert laid is not None  # it was, when it was chosen
            theirs[place] = laid
        fed = [theirs[place].astype(np.float32) for place in self._fed]
        return theirs, dict(zip(self._found, outputs_of(self._local, [*keras_inputs, *fed]), strict=True))

    def _settle(
        self, keras_inputs: Sequence[Any], ours: Mapping[int, np.ndarray], received: Mapping[Any, np.ndarray]
    ) -> None:
        """Cut the model at the tensors that were chosen, but for those that turn out to be others.

        One is another if it isn't alike, and what follows it is alike in the file, but not when Keras computes it from
        this one: the file computes it from the right one, then.
        """
        while True:
            self._found = [place for place in self._found if self.tensors[place] is not None]
            self._local, self._fed, readers = self._cut()
            theirs, own = self._beside(keras_inputs, ours, received)
            alike = {place: _alike(ours[place], laid) for place, laid in theirs.items()}
            misled = {place for place, laid in theirs.items() if alike[place] and not _alike(own[place], laid)}
            others = [place for place in self._found if not alike[place] and not misled.isdisjoint(readers[place])]
            if not others:
                break
            for place in others:
                self.tensors[place] = None
        self._forward = functional(graph_of(self.model).inputs, [self.probes[place].tensor for place in self._found])
        self.candidates = [Candidates(tensor, [tensor] if tensor else []) for tensor in self.tensors]

    def _choose(self, place: int, reference: np.ndarray, received: Mapping[Any, np.ndarray]) -> FileTensor | None:
        """Return which of a probe's candidates it is: one that is clearly alike, else the most likely one."""
        found = []
        for tensor in self.candidates[place].tensors:
            laid = self._lay(place, tensor, reference, received[tensor.key])
            if laid is not None:
                values = Values(None)
                values.add(reference, laid)
                found.append((np.inf if values.sqnr is None else values.sqnr, tensor))
        sqnr, best = max(found, key=lambda pair: pair[0], default=(-np.inf, None))
        likely = self.candidates[place].likely
        return best if sqnr >= ALIKE else next((tensor for _, tensor in found if tensor is likely), None)

    def _lay(self, place: int, tensor: FileTensor, reference: np.ndarray, value: np.ndarray) -> np.ndarray | None:
        """Return a file's tensor in the order of axes of Keras; None if no order, nor reshaping, makes it that."""
        if value.size != reference.size:
            return None
        if (place, tensor.key) not in self._order:
            found = laid_alike(value, reference)
            if found is None:
                return None
            self._order[place, tensor.key], laid = found
            return laid
        return in_order(value, self._order[place, tensor.key]).reshape(reference.shape)

    def _cut(self) -> tuple[keras.Model, list[int], dict[int, set[int]]]:
        """Return the model cut at each tensor that was found, which of these are inputs of it, and what reads each."""
        at = {id(self.probes[place].tensor): place for place in self._found}
        start = graph_of(self.model).inputs
        fed: dict[int, Any] = {}
        computed: dict[int, Any] = {}
        new: dict[int, Any] = {id(x): x for x in start}
        behind: dict[int, set[int]] = {}  # which of the tensors that were found each tensor is computed from
        readers: dict[int, set[int]] = {place: set() for place in self._found}
        names = {operation.name for operation in self.model.operations}

        def fill(x: Any) -> Any:
            return new[id(x)] if keras.utils.is_keras_tensor(x) else x

        for call in calls(self.model):
            arguments, keywords = keras.tree.map_structure(fill, (call.arguments, call.keywords))
            outputs = keras.tree.flatten(call.operation(*arguments, **keywords))
            before = set().union(*(behind.get(id(x), ()) for x in call.inputs))
            for old, made in zip(call.outputs, outputs, strict=True):
                new[id(old)], behind[id(old)] = made, before
                if id(old) in at:
                    place = at[id(old)]
                    for one in before:
                        readers[one].add(place)
                    behind[id(old)] = {place}
                    computed[place] = made
                    fed[place] = keras.Input(
                        batch_shape=old.shape, dtype=old.dtype, name=free(f"from_file_{place}", names)
                    )
                    new[id(old)] = _Masked(name=free(f"masked_{place}", names))([made, fed[place]])
        for place in self._found:  # an input that is returned as it is
            computed.setdefault(place, self.probes[place].tensor)
        return functional([*start, *fed.values()], [computed[place] for place in self._found]), list(fed), readers


class _Masked(keras.layers.Layer):
    """Gives the second of two tensors the mask that Keras knows of the first."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, dtype="float32", autocast=False)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        return inputs[1]

    def compute_mask(self, inputs: Any, mask: Any) -> Any:
        return None if mask is None else mask[0]

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor(inputs[1].shape, inputs[1].dtype)


class FloatComparison:
    """A quantized model beside the float model that it was made from, by the names of layers.

    Args:
        model: flat.
        found: its probes, which are compared.
        reference: float.
    """

    def __init__(self, model: keras.Model, found: Sequence[Probe], reference: keras.Model):
        plain = opened(strip(reference) if wrapped_layers(reference) else reference, check=False)
        static = any(not quantizer.spec.dynamic for quantizer in activation_quantizers(model))
        plain = lower(plain, static=static) if is_quantized(model) else plain
        by_name = {call.operation.name: call.outputs[0] for call in calls(plain) if len(call.outputs) == 1}
        by_name.update({x.name: x for x in plain.inputs})
        self._values: dict[int, Values] = {}
        pairs = []
        for place, probe in enumerate(found):
            names = [probe.source, probe.source.removesuffix("_linear"), f"{probe.source}_linear", probe.name]
            one = next((by_name[name] for name in names if name in by_name), None)
            if one is not None and tuple(one.shape) == tuple(probe.tensor.shape):
                self._values[place] = Values(None)
                pairs.append((one, probe.tensor))
        self._float = functional(plain.inputs, [one for one, _ in pairs]) if pairs else None
        self._quantized = functional(graph_of(model).inputs, [other for _, other in pairs]) if pairs else None

    def add(self, inputs: Sequence[Any]) -> None:
        """Run both on a batch."""
        for _ in self.run(inputs):
            pass

    def run(self, inputs: Sequence[Any]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Run both on a batch, add it, and yield the place of each probe with the float tensor and the other one."""
        if self._float is None or self._quantized is None:
            return
        both = zip(outputs_of(self._float, inputs), outputs_of(self._quantized, inputs), strict=True)
        for (place, values), (one, other) in zip(self._values.items(), both, strict=True):
            values.add(one, other)
            yield place, one, other

    def sqnr(self, place: int) -> float | None:
        """Return what quantization leaves of a probe's tensor, in dB; None if no layer has its name."""
        return self._values[place].sqnr if place in self._values else None


def _alike(reference: np.ndarray, value: np.ndarray) -> bool:
    values = Values(None)
    values.add(reference, value)
    return values.sqnr is None or values.sqnr >= ALIKE


def outputs_of(model: keras.Model, inputs: Sequence[Any]) -> list[np.ndarray]:
    """Return the outputs of a model in inference, computed in float32, as float64."""
    with float32_view(model):
        outputs = model([keras.ops.convert_to_tensor(x) for x in inputs], training=False)
    return [np.asarray(keras.ops.convert_to_numpy(x), np.float64) for x in keras.tree.flatten(outputs)]


def together(
    tensors: Sequence[FileTensor], runs: Sequence[Sequence[np.ndarray]], batch: Mapping[str, np.ndarray] | None
) -> dict[Any, np.ndarray]:
    """Return the tensors of several batches as those of one, by key.

    Args:
        tensors: of a file; where that takes one sample at a time, some have no axis for the samples.
        runs: their values in each batch.
        batch: the first one; `None`: there is one alone, and its tensors stay as they are.
    """
    rows = len(next(iter(batch.values()))) if batch else 0
    joined = {}
    for tensor, *parts in zip(tensors, *runs, strict=True):
        has_rows = parts[0].ndim > 0 and len(parts[0]) == rows
        one = parts[0] if batch is None else np.concatenate(parts) if has_rows else np.stack(parts)
        joined[tensor.key] = one
    return joined
