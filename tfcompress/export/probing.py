"""A Keras model and a file side by side: which tensors are the same one, and how far apart they are."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.export.observing import FileTensor, Observer
from tfcompress.export.view import float32_view
from tfcompress.quantization.lowering import lower
from tfcompress.quantization.placement import place as placed
from tfcompress.quantization.quantize import is_quantized
from tfcompress.quantization.quantizers import ActivationQuantizer, activation_quantizers
from tfcompress.quantization.rules import TRANSPARENT, rule_of
from tfcompress.surgery import rebuild, strip
from tfcompress.surgery.inputs import graph_of, is_graph
from tfcompress.surgery.naming import free
from tfcompress.surgery.walking import Call, calls
from tfcompress.wrapper import wrapped_layers

SUFFIX = re.compile(r"_\d+$")
"""What TensorFlow puts behind the name of a layer to tell its calls apart."""

ALIKE = 20.0
"""dB from which on a tensor is taken for the one that is sought, whatever its place in the file."""

LAYOUTS = {3: [(0, 2, 1)], 4: [(0, 2, 3, 1), (0, 3, 1, 2)], 5: [(0, 2, 3, 4, 1), (0, 4, 1, 2, 3)]}
"""Orders of axes that a file may have instead of the model's, by rank: the channels in front."""


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """A tensor of a Keras model that a file should compute, too.

    Attributes:
        name: of the quantizer or layer that makes it.
        source: of the layer whose output it is.
        tensor: symbolic.
        step: of its grid; None: float.
        names: of the layers whose work it may hold: the quantizer, then what is before it.
        output: the place among the model's outputs, or None.
        folded: the name of what it is folded into in a file, so that it isn't there itself; or None.
    """

    name: str
    source: str
    tensor: Any
    step: float | None
    names: tuple[str, ...]
    output: int | None = None
    folded: str | None = None


def flat(model: keras.Model) -> keras.Model:
    """Return a model as one flat functional graph without wrappers that training alone needs."""
    if static_quantizers(model):
        return model
    plain = strip(model) if wrapped_layers(model) and not is_quantized(model) else model
    return rebuild(plain, check=False)


def static_quantizers(model: keras.Model) -> list[ActivationQuantizer]:
    """Return the quantizers of a model that have a range; of one that isn't functional none."""
    if not is_graph(model):
        return []
    return [quantizer for quantizer in activation_quantizers(model) if not quantizer.spec.dynamic]


def probes(model: keras.Model) -> list[Probe]:
    """Return what can be compared of a flat model, in the order in which it is computed.

    Of a model with ranges, the output of each quantizer; of another one, that of each layer; then the model's
    outputs that are none of these.
    """
    graph = calls(model)
    producer = {id(x): call for call in graph for x in call.outputs}
    places = {id(x): place for place, x in enumerate(model.outputs)}
    quantized = bool(static_quantizers(model))
    folded = {} if quantized or not is_quantized(model) else _folded(graph, model.outputs)
    found = []
    for call in graph:
        isolated = isinstance(call.operation, ActivationQuantizer)
        if isolated is not quantized:
            continue
        floats = [x for x in call.outputs if keras.backend.is_float_dtype(x.dtype)]
        for place, x in enumerate(floats):
            name = call.operation.name if len(floats) == 1 else f"{call.operation.name}[{place}]"
            names = (call.operation.name, *_before(call, producer)) if quantized else (call.operation.name,)
            step = step_of(call.operation) if isolated else None
            source = (call.operation.source or names[-1]) if isolated else call.operation.name
            found.append(Probe(name, source, x, step, names, places.get(id(x)), folded.get(call)))
    there = {id(probe.tensor) for probe in found}
    for x in model.outputs:
        if id(x) not in there:
            last = producer.get(id(x))
            source = last.operation.name if last else x.name
            step = grid_step(x, producer) if quantized else None
            found.append(Probe(model.output_names[places[id(x)]], source, x, step, (source,), places[id(x)]))
    return found


def _folded(graph: Sequence[Call], outputs: Sequence[Any]) -> dict[Call, str]:
    """Return {call: name of the last affine map that is folded into it}."""
    found: dict[Call, str] = {}
    producer = {id(x): call for call in graph for x in call.outputs}
    maps = placed(graph, outputs, None).folded
    for call in (call for call in graph if call in maps):
        before = producer.get(id(call.inputs[0]))
        while before is not None:
            found[before] = call.operation.name
            before = producer.get(id(before.inputs[0])) if before in maps else None
    return found


def _before(call: Call, producer: Mapping[int, Call]) -> Iterator[str]:
    """Yield the names of what is before a quantizer, up to the one before it or to where branches meet."""
    while len(call.inputs) == 1:
        before = producer.get(id(call.inputs[0]))
        if before is None:
            yield call.inputs[0].name
            return
        if isinstance(before.operation, ActivationQuantizer):
            return
        yield before.operation.name
        call = before


def step_of(quantizer: ActivationQuantizer) -> float:
    """Return the step of a quantizer's grid."""
    low, high = quantizer.range
    narrow = quantizer.spec.symmetric and quantizer.fixed is None
    return (high - low) / (2**quantizer.spec.bits - (2 if narrow else 1))


def grid_step(x: Any, producer: Mapping[int, Call]) -> float | None:
    """Return the step of the grid on which a tensor lies: its quantizer's, or that of what is only moved to it."""
    call = producer.get(id(x))
    if call is None:
        return None
    if isinstance(call.operation, ActivationQuantizer):
        return None if call.operation.spec.dynamic else step_of(call.operation)
    if rule_of(call).kind == TRANSPARENT and call.inputs:
        return grid_step(call.inputs[0], producer)
    return None


def output_steps(model: keras.Model) -> list[float | None]:
    """Return the step of the grid of each output of a model, in their order; None where it has none."""
    if not static_quantizers(model):
        return []
    producer = {id(x): call for call in calls(model) for x in call.outputs}
    return [grid_step(x, producer) for x in model.outputs]


def match(found: Sequence[Probe], observer: Observer, known: set[str]) -> list[list[FileTensor]]:
    """Find the tensors of a file that each probe may be, the most likely one first; none where there is none.

    A file says the names of quantizers itself (ONNX), or its tensors are called as the operations of the layers; two
    that are on the same grid and of the same size are the same one more likely than others.

    Args:
        found: the probes, in order.
        observer: the file.
        known: the names of all layers of the model.
    """
    scopes = {tensor.key: _scopes(tensor.name, known) for tensor in observer.tensors}
    order = {probe.names[0]: place for place, probe in enumerate(found)}
    folded = {probe.names[0]: probe.folded for probe in found if probe.folded}
    ends = list(observer.outputs.values())
    matched: list[list[FileTensor]] = []
    for probe in found:
        if probe.output is not None and probe.output < len(ends):
            matched.append([ends[probe.output]])
        elif probe.name in observer.named:
            matched.append([observer.named[probe.name]])
        elif probe.folded:
            matched.append([])
        elif probe.step is not None:
            matched.append(_on_grid(probe, observer, scopes))
        else:
            matched.append(_of_layer(probe, observer, scopes, order, folded))
    return matched


Scopes = list[tuple[str, str]]
"""For each operation that a tensor's name holds: the scope up to the innermost layer, and the name of the layer."""


def _scopes(name: str, known: set[str]) -> Scopes:
    found = []
    for part in name.split(";"):
        path = part.split(":")[0].split("/")
        for depth in range(len(path), 0, -1):
            component = path[depth - 1]
            # A name that stands alone was given as it is; in a scope it has the number of the call behind it.
            candidates = [component] if len(path) == 1 else [SUFFIX.sub("", component), component]
            layer = next((candidate for candidate in candidates if candidate in known), None)
            if layer is not None:
                found.append(("/".join(path[:depth]), layer))
                break
        else:
            found.append(("", ""))
    return found


def _fits(probe: Probe, tensor: FileTensor) -> bool:
    """Return whether the sizes, as far as they are known, allow a tensor to be a probe's."""
    wanted = probe.tensor.shape[1:]
    if tensor.shape is None or None in tensor.shape[1:] or None in wanted:
        return True
    size = math.prod(wanted)
    # Some operators leave the batch of 1 out, or merge it with what follows.
    return size in (math.prod(s or 1 for s in tensor.shape[1:]), math.prod(s or 1 for s in tensor.shape))


def _on_grid(probe: Probe, observer: Observer, scopes: Mapping[Any, Scopes]) -> list[FileTensor]:
    """Return the tensors on a quantizer's grid: by grid and name, else by name, else by grid."""
    assert probe.step is not None
    ranked: dict[int, list[FileTensor]] = {}
    for tensor in observer.tensors:
        if not _fits(probe, tensor):
            continue
        layers = {layer for _, layer in scopes[tensor.key]}
        named = not layers.isdisjoint(probe.names)
        same = tensor.scale is not None and abs(tensor.scale - probe.step) <= 1e-4 * probe.step
        if tensor.scale is None:
            rank = 3 if probe.names[0] in layers else None  # else it is what is before the quantizer
        else:
            rank = (0 if same else 1) if named else 2 if same else None
        if rank is not None:
            ranked.setdefault(rank, []).append(tensor)
    best = [*ranked.get(0, []), *ranked.get(2, [])] or ranked.get(1) or ranked.get(3) or []
    firm = {tensor.key for tensor in ranked.get(0, [])}
    # What follows a quantizer may only move its values: the first of these tensors is its own.
    shape = tuple(probe.tensor.shape[1:])
    return sorted(best, key=lambda tensor: (tensor.key not in firm, tensor.shape is None or tensor.shape[1:] != shape))


def _of_layer(
    probe: Probe,
    observer: Observer,
    scopes: Mapping[Any, Scopes],
    order: Mapping[str, int],
    folded: Mapping[str, str | None],
) -> list[FileTensor]:
    """Return the last tensor that a layer computes in each of its calls, then what else may be its output."""
    groups: dict[str, list[FileTensor]] = {}
    nameless = []
    for tensor in observer.tensors:
        if not tensor.real_numbers or not _fits(probe, tensor):
            continue
        parts = [(scope, folded.get(layer) or layer) for scope, layer in scopes[tensor.key]]
        # Operations that are fused into one have all their names: the tensor is what the last of them makes.
        scope, layer = max(parts, key=lambda part: order.get(part[1], -1))
        if layer == probe.names[0]:
            groups.setdefault(scope, []).append(tensor)
        elif not layer and tensor.shape is not None:
            nameless.append(tensor)
    last = [tensors[-1] for tensors in groups.values()]
    return [*last, *(tensor for tensors in groups.values() for tensor in tensors[:-1]), *nameless] if last else nameless


class Values:
    """What two tensors differ by, summed up over batches.

    Attributes:
        step: of the grid; None: float.
    """

    def __init__(self, step: float | None):
        self.step = step
        self.count = 0
        self.equal = 0
        self.signal = self.sum = self.noise = self.absolute = self.largest = self.peak = 0.0

    def add(self, reference: np.ndarray, value: np.ndarray) -> None:
        """Add a batch."""
        with np.errstate(invalid="ignore"):
            difference = np.where(reference == value, 0.0, np.abs(reference - value))
        difference = np.where(np.isnan(reference) & np.isnan(value), 0.0, difference)
        difference = np.where(np.isnan(difference), np.inf, difference)
        reference = np.where(np.isfinite(reference), reference, 0.0)
        self.count += difference.size
        self.sum += float(reference.sum())
        self.signal += float(np.square(reference).sum())
        self.noise += float(np.square(difference).sum())
        self.absolute += float(difference.sum())
        self.largest = max(self.largest, float(difference.max(initial=0.0)))
        self.peak = max(self.peak, float(np.abs(reference).max(initial=0.0)))
        self.equal += int((difference < self.step / 2 if self.step else difference == 0).sum())

    @property
    def sqnr(self) -> float | None:
        """Variance of the reference over the mean squared difference, in dB; None if nothing differs."""
        if not self.noise or not self.count:
            return None
        variance = max(self.signal / self.count - (self.sum / self.count) ** 2, 0.0)
        return 10 * math.log10(variance * self.count / self.noise) if variance else -math.inf

    @property
    def max_steps(self) -> float | None:
        """Largest difference in steps."""
        return self.largest / self.step if self.step else None

    @property
    def mean_steps(self) -> float | None:
        """Mean difference in steps."""
        return self.absolute / self.count / self.step if self.step and self.count else None

    @property
    def mean(self) -> float:
        """Mean difference."""
        return self.absolute / max(self.count, 1)

    @property
    def share(self) -> float:
        """Share of the values that are equal: on a grid the same integer."""
        return self.equal / max(self.count, 1)


class Comparison:
    """A flat model beside a file: both on the same inputs, and each part of the model on the file's own tensors.

    In the second comparison every difference is of one layer's making: what differs before it counts for nothing.

    Args:
        model: flat.
        observer: the file.
    """

    def __init__(self, model: keras.Model, observer: Observer):
        self.model, self.observer = model, observer
        self.probes = probes(model)
        self.candidates = match(self.probes, observer, {operation.name for operation in model.operations})
        self.likely = [_likely(probe, found) for probe, found in zip(self.probes, self.candidates, strict=True)]
        self.tensors: list[FileTensor | None] = [None] * len(self.probes)
        self.whole = [Values(probe.step) for probe in self.probes]
        self.own = [Values(probe.step) for probe in self.probes]
        self.outputs: dict[str, np.ndarray] = {}
        self._found = [place for place, tensors in enumerate(self.candidates) if tensors]
        self._forward = keras.Model(graph_of(model).inputs, [self.probes[place].tensor for place in self._found])
        self._order: dict[tuple[int, Any], tuple[int, ...] | None] = {}
        self._local: keras.Model | None = None
        self._fed: list[int] = []

    def add(self, keras_inputs: Sequence[Any], file_inputs: Mapping[str, np.ndarray]) -> None:
        """Run both on a batch.

        Args:
            keras_inputs: in the order of the model's.
            file_inputs: the same samples by the names of the file's inputs, in its dtypes.
        """
        wanted = [*(tensor for place in self._found for tensor in self.candidates[place])]
        wanted = list({tensor.key: tensor for tensor in [*wanted, *self.observer.outputs.values()]}.values())
        received = {
            tensor.key: value for tensor, value in zip(wanted, self.observer.run(file_inputs, wanted), strict=True)
        }
        self.outputs = {name: received[tensor.key] for name, tensor in self.observer.outputs.items()}
        ours = dict(zip(self._found, _run(self._forward, keras_inputs), strict=True))
        if self._local is None:
            for place in self._found:
                self.tensors[place] = self._choose(place, ours[place], received)
            self._found = [place for place in self._found if self.tensors[place] is not None]
            self._forward = keras.Model(
                graph_of(self.model).inputs, [self.probes[place].tensor for place in self._found]
            )
            self.candidates = [[] if tensor is None else [tensor] for tensor in self.tensors]
            self._local, self._fed = self._cut()
        theirs: dict[int, np.ndarray] = {}
        for place in self._found:
            tensor = self.tensors[place]
            assert tensor is not None
            laid = self._lay(place, tensor, ours[place], received[tensor.key])
            if laid is not None:
                theirs[place] = laid
                self.whole[place].add(ours[place], laid)
        fed = [theirs[place].astype(np.float32) for place in self._fed]
        for place, reference in zip(self._found, _run(self._local, [*keras_inputs, *fed]), strict=True):
            self.own[place].add(reference, theirs[place])

    def _choose(self, place: int, reference: np.ndarray, received: Mapping[Any, np.ndarray]) -> FileTensor | None:
        """Return which of a probe's candidates it is: one that is clearly alike, else the most likely one."""
        found = []
        for tensor in self.candidates[place]:
            laid = self._lay(place, tensor, reference, received[tensor.key])
            if laid is not None:
                values = Values(None)
                values.add(reference, laid)
                found.append((np.inf if values.sqnr is None else values.sqnr, tensor))
        if not found:
            return None
        sqnr, best = max(found, key=lambda pair: pair[0])
        return best if sqnr >= ALIKE else self.likely[place]

    def _lay(self, place: int, tensor: FileTensor, reference: np.ndarray, value: np.ndarray) -> np.ndarray | None:
        """Return a file's tensor in the order of axes of Keras; None if it has another size."""
        if value.size != reference.size:
            return None
        if (place, tensor.key) not in self._order:
            fits: list[tuple[int, ...] | None] = [None]
            others = LAYOUTS.get(value.ndim, [])
            fits += [way for way in others if value.transpose(way).shape == reference.shape]
            if value.shape != reference.shape and len(fits) > 1:
                fits = fits[1:]
            errors = [float(np.square(_in_order(value, way, reference.shape) - reference).sum()) for way in fits]
            self._order[place, tensor.key] = fits[int(np.argmin(errors))]
        return _in_order(value, self._order[place, tensor.key], reference.shape)

    def _cut(self) -> tuple[keras.Model, list[int]]:
        """Return the model cut at each tensor that was found, and which of these are inputs of it."""
        at = {id(self.probes[place].tensor): place for place in self._found}
        start = graph_of(self.model).inputs
        fed: dict[int, Any] = {}
        computed: dict[int, Any] = {}
        new: dict[int, Any] = {id(x): x for x in start}
        names = {operation.name for operation in self.model.operations}

        def fill(x: Any) -> Any:
            return new[id(x)] if keras.utils.is_keras_tensor(x) else x

        for call in calls(self.model):
            arguments, keywords = keras.tree.map_structure(fill, (call.arguments, call.keywords))
            outputs = keras.tree.flatten(call.operation(*arguments, **keywords))
            for old, made in zip(call.outputs, outputs, strict=True):
                new[id(old)] = made
                if id(old) in at:
                    place = at[id(old)]
                    computed[place] = made
                    new[id(old)] = fed[place] = keras.Input(
                        batch_shape=old.shape, dtype=old.dtype, name=free(f"from_file_{place}", names)
                    )
        for place in self._found:  # an input that is returned as it is
            computed.setdefault(place, self.probes[place].tensor)
        return keras.Model([*start, *fed.values()], [computed[place] for place in self._found]), list(fed)


class FloatComparison:
    """A quantized model beside the float model that it was made from, by the names of layers.

    Args:
        comparison: whose probes are compared.
        model: float.
    """

    def __init__(self, comparison: Comparison, model: keras.Model):
        plain = lower(rebuild(strip(model) if wrapped_layers(model) else model, check=False))
        by_name = {call.operation.name: call.outputs[0] for call in calls(plain) if len(call.outputs) == 1}
        by_name.update({x.name: x for x in graph_of(plain).inputs})
        self._values: dict[int, Values] = {}
        pairs = []
        for place, probe in enumerate(comparison.probes):
            names = [probe.source, probe.source.removesuffix("_linear"), probe.name]
            found = next((by_name[name] for name in names if name in by_name), None)
            if found is not None and tuple(found.shape) == tuple(probe.tensor.shape):
                self._values[place] = Values(None)
                pairs.append((found, probe.tensor))
        self._float = keras.Model(graph_of(plain).inputs, [one for one, _ in pairs]) if pairs else None
        self._quantized = (
            keras.Model(graph_of(comparison.model).inputs, [other for _, other in pairs]) if pairs else None
        )

    def add(self, inputs: Sequence[Any]) -> None:
        """Run both on a batch."""
        if self._float is None or self._quantized is None:
            return
        both = zip(_run(self._float, inputs), _run(self._quantized, inputs), strict=True)
        for values, (one, other) in zip(self._values.values(), both, strict=True):
            values.add(one, other)

    def sqnr(self, place: int) -> float | None:
        """Return what quantization leaves of a probe's tensor, in dB; None if no layer has its name."""
        return self._values[place].sqnr if place in self._values else None


def is_dynamic(model: keras.Model) -> bool:
    """Return whether a model finds ranges at run time."""
    return any(quantizer.spec.dynamic for quantizer in activation_quantizers(model))


def _in_order(value: np.ndarray, way: tuple[int, ...] | None, shape: tuple[int, ...]) -> np.ndarray:
    return (value if way is None else value.transpose(way)).reshape(shape)


def _run(model: keras.Model, inputs: Sequence[Any]) -> list[np.ndarray]:
    with float32_view(model):
        outputs = model([keras.ops.convert_to_tensor(x) for x in inputs], training=False)
    return [np.asarray(keras.ops.convert_to_numpy(x), np.float64) for x in keras.tree.flatten(outputs)]
