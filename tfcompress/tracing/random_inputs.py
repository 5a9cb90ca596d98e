"""The random numbers that inference draws as inputs of a file: its user draws them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.keras_private import flatten_layers
from tfcompress.data.named_inputs import TensorInfo, count_samples, fit_inputs
from tfcompress.graph.inputs.sizes import batch_of
from tfcompress.tracing.constant_parts import reachable
from tfcompress.tracing.float32_view import float32_view
from tfcompress.tracing.function_graph import captured_by, function_of
from tfcompress.tracing.random_operations import CLASSES, KINDS, NORMAL, TRUNCATED, UNIFORM, draw_classes, drawing, said
from tfcompress.tracing.recurrent_state import first_samples
from tfcompress.tracing.signature import Signature, unique
from tfcompress.tracing.trace import Trace, plainly, trace
from tfcompress.tracing.unsupported_operators import layer_of

EXPECTED = {
    NORMAL: "standard normal (mean 0, deviation 1)",
    UNIFORM: "uniform from 0 to below 1",
    TRUNCATED: "standard normal, drawn again where it is beyond -2 to 2",
}

PROBE = 251
"""A number of samples that no other size of a model is likely to be: a draw of so many rows has one for each."""


@dataclasses.dataclass(frozen=True)
class Draw:
    """One operation that draws.

    Attributes:
        kind: a key of `EXPECTED`.
        layer: in which it is.
        tensor: its name in the graph.
        shape: of what it draws.
    """

    kind: str
    layer: str
    tensor: str
    shape: tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class NoiseSignature(Signature):
    """A signature with what is drawn behind the inputs.

    Attributes:
        own: the model's, without draws.
        kinds: {name of an input that is drawn: a key of `EXPECTED`}.
    """

    own: Signature = dataclasses.field(kw_only=True)
    kinds: dict[str, str] = dataclasses.field(kw_only=True)

    @property
    def own_inputs(self) -> dict[str, TensorInfo]:
        """The inputs without draws."""
        return self.own.inputs

    @property
    def sampled_inputs(self) -> dict[str, TensorInfo]:
        """The inputs without draws, whose number depends on these."""
        return self.own.inputs

    def call(self, model: keras.Model, tensors: Sequence[Any]) -> dict[str, Any]:
        """Call `model` with inputs and draws; return {name: tensor}."""
        return self.caller(model)(tensors)

    def caller(self, model: keras.Model) -> Callable[[Sequence[Any]], dict[str, Any]]:
        """Return what calls `model` in a graph in which given numbers stand where it draws.

        A graph is made for each shape of inputs: variables must not have other values meanwhile.
        """
        made: dict[Any, tuple[Any, list[str]]] = {}

        def call(tensors: Sequence[Any]) -> dict[str, Any]:
            inputs = tensors[: len(self.own.inputs)]
            key = tuple(tuple(x.shape) for x in inputs)
            if key not in made:
                concrete, order, draws = self._traced(model, inputs)
                lead = {name: self.inputs[name].shape for name in draws}
                made[key] = _given(concrete, len(inputs), {n: (draws[n], lead[n]) for n in self.kinds}), order
            concrete, order = made[key]
            outputs = concrete(*tensors)
            return {name: outputs[name] for name in order}

        return call

    def _traced(self, model: keras.Model, tensors: Sequence[Any]) -> tuple[Any, list[str], dict[str, Draw]]:
        import tensorflow as tf

        order: list[str] = []

        def inference(*inputs: Any) -> dict[str, Any]:
            outputs = self.own.call(model, inputs)
            order[:] = outputs
            return {name: tf.identity(x) for name, x in outputs.items()}

        specs = [tf.TensorSpec(x.shape, x.dtype, name=name) for name, x in zip(self.own.inputs, tensors, strict=True)]
        function = tf.function(inference, input_signature=specs, autograph=False)
        concrete = plainly(function.get_concrete_function(), len(specs))
        layers = frozenset(layer.name for layer in flatten_layers(model, include_self=False))
        draws = find_draws(concrete, self.own.inputs, layers, model.name)
        if {name: draw.kind for name, draw in draws.items()} != self.kinds:
            raise ValueError(
                "Expected the model to draw the random numbers that its file takes, "
                f"{', '.join(self.kinds)}. Received: {model.name!r}, which draws {', '.join(draws) or 'none'}. Let "
                "what it draws depend on its layers alone."
            )
        return concrete, order, draws

    def completed(
        self, model: keras.Model, inputs: Mapping[str, np.ndarray], random: np.random.Generator | None = None
    ) -> dict[str, np.ndarray]:
        """Return inputs with numbers drawn behind them, as many as `model` draws for them."""
        random = np.random.default_rng(0) if random is None else random
        samples = count_samples(inputs)
        shapes = {name: self.inputs[name].shape[1:] for name in self.kinds}
        if any(None in shape for shape in shapes.values()):
            batch = batch_of(spec.shape for spec in self.inputs.values()) or 1
            tensors = [keras.ops.convert_to_tensor(x[:batch] if x.ndim else x) for x in inputs.values()]
            with float32_view(model):
                found = self._traced(model, tensors)[2]
            shapes = {name: found[name].shape[len(found[name].shape) - len(shapes[name]) :] for name in shapes}
        drawn = {name: _drawn(kind, (samples, *map(_size, shapes[name])), random) for name, kind in self.kinds.items()}
        return {**inputs, **drawn}

    def fitted(self, model: keras.Model, data: Any) -> dict[str, np.ndarray]:
        """Return data to compare on by input name, with numbers drawn where it has none; refuse what doesn't fit."""
        if isinstance(data, Mapping) and not self.kinds.keys().isdisjoint(data):
            return fit_inputs(data, self.inputs, finite=True)
        return self.completed(model, fit_inputs(data, self.own.inputs, finite=True))

    def notes(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """Say what each input that is drawn expects."""
        each = "; ".join(f"{name}: {EXPECTED[kind]}" for name, kind in self.kinds.items())
        return (f"Random numbers go in: draw new ones for each run, float32, each of its own. {each}.",)


def check_noise(random: Any, stateful: Any, inference_io: str) -> None:
    """Refuse what doesn't go with `random`.

    Raises:
        ValueError: it is no such value, or states or integers are asked for beside it.
    """
    if random is None:
        return
    if not isinstance(random, str) or random != "inputs":
        raise ValueError(f"Expected random to be 'inputs' or None. Received: random={random!r}.")
    if stateful is not None or inference_io != "float32":
        received = f"stateful={stateful!r}" if stateful is not None else f"inference_io={inference_io!r}"
        raise ValueError(
            "Expected neither stateful= nor inference_io= beside random='inputs': what is drawn is float numbers, and "
            f"depends on no run before. Received: {received}. Leave one of them out."
        )


def with_noise(model: keras.Model, traced: Trace, kind: str, data: Any) -> tuple[Trace, dict[str, np.ndarray] | None]:
    """Return a trace with draws as inputs (see `draws_as_inputs`), and data to compare on; None: to be made.

    Args:
        model: That was traced.
        traced: Its trace.
        kind: As for `trace`.
        data: As `export` takes it in `verify`.
    """
    made = draws_as_inputs(model, traced, kind)
    signature = made.signature
    if isinstance(data, bool) or not isinstance(signature, NoiseSignature):
        return made, None
    return made, signature.fitted(model, first_samples(data, signature.own_inputs))


def draws_as_inputs(model: keras.Model, traced: Trace, kind: str | None = None) -> Trace:
    """Return a trace in which what is drawn at random is an input.

    Args:
        model: That was traced.
        traced: Its trace.
        kind: As for `trace`.

    Raises:
        ValueError: nothing is drawn, it is drawn in another way than `KINDS`, in a loop, or not one row for each sample
            of a batch of several.
    """
    own = traced.signature
    draws = find_draws(traced.concrete, traced.inputs, traced.layers, traced.name)
    if not draws:
        raise ValueError(
            "Expected a model that draws random numbers in inference, for random='inputs'. Received: "
            f"{traced.name!r}, which draws none. Leave random out."
        )
    batch = batch_of(spec.shape for spec in traced.inputs.values())
    rows = _rows(model, own, kind)
    here: dict[str, TensorInfo] = {}
    declared: dict[str, TensorInfo] = {}
    for name, draw in draws.items():
        shape = draw.shape
        if rows.get(name) == PROBE:  # one for each sample
            here[name], declared[name] = (TensorInfo((size, *shape[1:]), "float32") for size in (batch, None))
            continue
        if batch == 1 and shape[:1] != (1,):
            shape = (1, *shape)
        if batch is None or shape[:1] != (batch,) or (batch > 1 and name in rows):
            raise ValueError(
                f"Expected random numbers of which each sample has its own row, for random='inputs'. Received: layer "
                f"{draw.layer!r} of {traced.name!r}, which draws {draw.kind} of shape {draw.shape} for all samples of "
                "a batch. Export with batch_size=1: each run then takes a sample and its draw."
            )
        here[name] = declared[name] = TensorInfo(shape, "float32")
    concrete = _given(traced.concrete, len(traced.inputs), {n: (draws[n], here[n].shape) for n in draws})
    kinds = {name: draw.kind for name, draw in draws.items()}
    inputs = {**own.inputs, **declared}
    signature = NoiseSignature(inputs, own.output_names, own.declared, own.pack, own=own, kinds=kinds)
    return dataclasses.replace(traced, concrete=concrete, inputs={**traced.inputs, **here}, signature=signature)


def noise_signature(model: keras.Model, batch_size: int | None) -> NoiseSignature | None:
    """Return how a file of `model` is called that takes random numbers; None where the model draws none.

    Args:
        model: built.
        batch_size: of the file.

    Raises:
        ValueError: as `draws_as_inputs`.
    """
    traced = trace(model, batch_size)
    if not drawing(traced.concrete, len(traced.inputs)):
        return None
    signature = draws_as_inputs(model, traced).signature
    assert isinstance(signature, NoiseSignature)
    return signature


def samples_at_once(signature: Signature) -> int | None:
    """Return how many samples a model is to be called with, where what it draws is for that many; None: any number."""
    if not isinstance(signature, NoiseSignature):
        return None
    return batch_of(spec.shape for spec in signature.inputs.values())


def find_draws(concrete: Any, inputs: Mapping[str, TensorInfo], layers: frozenset[str], model: str) -> dict[str, Draw]:
    """Return what a graph draws, by the name of the input that takes its place.

    Args:
        concrete: The graph.
        inputs: Its arguments.
        layers: The names of all layers.
        model: The name of the model.

    Raises:
        ValueError: it draws in another way than `KINDS`, or in a loop.
    """
    found = []
    for op in drawing(concrete, len(inputs)):
        kind, tensor, layer = KINDS.get(op.type), op.outputs[0], layer_of(op, layers)
        dtype, shape = tensor.dtype.name, tensor.shape
        if op.type in CLASSES:
            kind, dtype = UNIFORM, op.inputs[0].dtype.name
            shape = shape.concatenate(op.inputs[0].shape[-1:])
        if kind is None or dtype != "float32" or shape.rank is None:
            where = f"layer {layer!r} of model {model!r}" if layer else f"model {model!r}"
            raise ValueError(
                f"Expected random numbers drawn by {', '.join(EXPECTED)} or categorical of keras.random, float32 and "
                f"outside of loops and branches, for random='inputs'. Received: {where}, which draws {said(op)}. Make "
                "such numbers of uniform ones, or split the model: what is before the draw is one file, what is behind "
                "it another."
            )
        found.append(Draw(kind, layer or "model", tensor.name, tuple(shape.as_list())))
    # A layer that gave its name to the output's quantizer has another since: see `surgery.naming`.
    names = unique((f"{draw.layer.removesuffix('_linear')}_{draw.kind}" for draw in found), inputs)
    return dict(zip(names, found, strict=True))


def _rows(model: keras.Model, signature: Signature, kind: str | None) -> dict[str, int | None]:
    """Return how many rows a model draws for `PROBE` samples; nothing for one that doesn't take as many."""
    if batch_of(spec.shape for spec in signature.inputs.values()) is not None:
        return {}
    try:
        traced = trace(model, PROBE, kind, signature)
    except ValueError:
        return {}
    draws = find_draws(traced.concrete, traced.inputs, traced.layers, traced.name)
    return {name: draw.shape[0] for name, draw in draws.items() if draw.shape}


def _given(concrete: Any, count: int, draws: Mapping[str, tuple[Draw, Sequence[int | None]]]) -> Any:
    """Return a graph that takes behind its arguments what it draws, of some shapes: its own, or with a 1 in front."""
    import tensorflow as tf

    graph = concrete.graph.as_graph_def()
    nodes = {node.name: node for node in graph.node}
    arguments = {x.name: tf.TensorSpec(x.shape, x.dtype, name=x.op.name) for x in concrete.inputs[:count]}
    for name, (draw, shape) in draws.items():
        node = nodes[draw.tensor.split(":")[0]]
        given = read = f"{node.name}/given"
        graph.node.add(name=given, op="Placeholder")
        if len(shape) > len(draw.shape):
            read = f"{node.name}/row"
            made = graph.node.add(name=read, op="Squeeze", input=[given])
            made.attr["T"].type = tf.float32.as_datatype_enum
            made.attr["squeeze_dims"].list.i.append(0)
        if node.op in CLASSES:
            draw_classes(graph, node, read)
        else:  # what seeds are made of is needed no longer
            same = tf.compat.v1.NodeDef(name=node.name, op="Identity", input=[read])
            same.attr["T"].type = tf.float32.as_datatype_enum
            node.CopyFrom(same)
        tensor = f"{given}:0"
        arguments[tensor] = tf.TensorSpec(shape, tf.float32, name=name)
    outputs = {name: x.name for name, x in concrete.structured_outputs.items()}
    # Without what only made keys and counters of draws that are gone, or was to come before these.
    graph, names = reachable(graph, outputs.values(), set())
    captured = {name: x for name, x in captured_by(concrete, count).items() if name.split(":")[0] in names}
    return function_of(graph, arguments, captured, outputs)


def _drawn(kind: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    if kind == UNIFORM:
        return random.random(shape, np.float32)
    values = random.standard_normal(shape, np.float32)
    while kind == TRUNCATED and (beyond := np.abs(values) > 2).any():
        values[beyond] = random.standard_normal(int(beyond.sum()), np.float32)
    return values


def _size(size: int | None) -> int:
    return size or 1
