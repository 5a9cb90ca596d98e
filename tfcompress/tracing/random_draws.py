"""The operations of a graph that draw random numbers: found, and replaced by inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfcompress.data.named_inputs import TensorInfo
from tfcompress.tracing.constant_parts import reachable
from tfcompress.tracing.function_graph import captured_by, function_of
from tfcompress.tracing.random_operations import CLASSES, KINDS, NORMAL, TRUNCATED, UNIFORM, draw_classes, drawing, said
from tfcompress.tracing.signature import unique
from tfcompress.tracing.unsupported_operators import layer_of

EXPECTED = {
    NORMAL: "standard normal (mean 0, deviation 1)",
    UNIFORM: "uniform from 0 to below 1",
    TRUNCATED: "standard normal, drawn again where it is beyond -2 to 2",
}


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
    # A layer that gave its name to the output's quantizer has another since: see `graph.naming`.
    names = unique((f"{draw.layer.removesuffix('_linear')}_{draw.kind}" for draw in found), inputs)
    return dict(zip(names, found, strict=True))


def given_graph(concrete: Any, count: int, draws: Mapping[str, tuple[Draw, Sequence[int | None]]]) -> Any:
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


def drawn(kind: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Return numbers of one of the distributions in `EXPECTED`."""
    if kind == UNIFORM:
        return random.random(shape, np.float32)
    values = random.standard_normal(shape, np.float32)
    while kind == TRUNCATED and (beyond := np.abs(values) > 2).any():
        values[beyond] = random.standard_normal(int(beyond.sum()), np.float32)
    return values
