"""Layers that compute with a kernel before a product reads it, as weight standardization does.

What the product reads then lies on no grid, though the kernel does, and a file would hold it in float. A kernel that is
moved, sliced, or scaled as a whole or by channel stays on one.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import keras
from keras import tree

from tfcompress.core.keras_private import flatten_layers, run_through_graph
from tfcompress.core.out_of_memory import pass_on_full
from tfcompress.core.passthrough import asks_for_training, innermost
from tfcompress.core.tensorflow_private import function_in
from tfcompress.graph import kernel_positions, rebuild
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.graph.own_weights import Parameter
from tfcompress.graph.rewrite import Call, rewritten
from tfcompress.layers.kernel_layouts import channel_axes
from tfcompress.layers.names import is_of_keras
from tfcompress.quantization.graph.float_layers import COMPUTED, KeptFloat
from tfcompress.quantization.graph.layer_precisions import LayerPrecisions

_MOVES = (
    *("Identity", "IdentityN", "Cast", "StopGradient", "PreventGradient", "EnsureShape", "Neg", "Reshape", "Transpose"),
    *("Squeeze", "ExpandDims", "Split", "SplitV", "Unpack", "StridedSlice", "Slice", "GatherV2", "GatherNd", "Tile"),
    *("BroadcastTo", "Pad", "ReverseV2", "Roll"),
)
_JOINS = ("ConcatV2", "Pack")
_SAME_PLACE = ("Identity", "Cast", "StopGradient", "Neg")
_SCALES = ("Mul", "RealDiv")
_PRODUCT = re.compile("Conv|MatMul|Einsum|Gather")
"""TensorFlow's operations of these names have weights."""
_BODIES = ("f", "body", "then_branch", "else_branch")
"""Attributes of TensorFlow's operations that name graphs, which run with the last of the operation's inputs."""


def keep_computed(
    graph: FlatGraph, precisions: LayerPrecisions, includes: Callable[[Any], bool]
) -> tuple[FlatGraph, Callable[[Any], bool]]:
    """Keep layers float that compute with a kernel before a product reads it, with a warning.

    Args:
        graph: A lowered one; its layers are used in the result.
        precisions: How kernels are quantized.
        includes: Which layers are quantized.

    Returns:
        The graph, and which of its layers are quantized.

    Raises:
        ValueError: If no other layer has a kernel.
    """

    def per_channel(layer: Any) -> bool:
        return precisions.of(layer).weights.granularity != "per_tensor"

    found = {} if precisions.common.float16 else computing_layers(graph, per_channel, includes)
    if not found:
        return graph, includes
    names = ", ".join(map(repr, found))
    if {layer.name for layer in graph.layers if kernel_positions(layer) and includes(layer)} <= set(found):
        if not all(found.values()):
            return graph, includes  # the other kernels of these layers are all that there is to quantize
        raise ValueError(
            f"Expected a model with layers to quantize. Received: {graph.name!r}, in which each layer with a kernel "
            f"that is meant ({names}) computes with it first, so that what it multiplies by lies on no grid of "
            "integers. Compute it into the kernel once, and use Keras' own layers."
        )
    one = len(found) == 1
    warnings.warn(
        f"{'Layer' if one else 'Layers'} {names} {'stays' if one else 'stay'} float: "
        + ("its" if one else "their")
        + " `call` computes with the kernel first, as weight standardization or a mask does, and what it multiplies "
        "by then lies on no grid of integers. Compute it into the kernel once, and use Keras' own layer, if it is to "
        "be integer.",
        stacklevel=5,
    )
    made: dict[int, KeptFloat] = {}

    def visit(call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        layer = call.operation
        if layer.name in found and id(layer) not in made:
            made[id(layer)] = KeptFloat(layer, COMPUTED)
            made[id(layer)].build()
        return made.get(id(layer), layer)(*arguments, **keywords)

    return rewritten(graph, visit), lambda layer: layer.name not in found and includes(layer)


def computing_layers(
    graph: keras.Model | FlatGraph, per_channel: Callable[[Any], bool], includes: Callable[[Any], bool]
) -> dict[str, bool]:
    """Return the layers that compute with a kernel before a product reads it, and whether with all of theirs.

    They are found where Keras runs on TensorFlow, which is what exports need: the model is traced once, with its
    kernels as inputs.

    Args:
        graph: A flat functional model or graph.
        per_channel: Whether each channel of a layer's kernel has a grid of its own, so that it may be scaled by itself.
        includes: Which layers are looked at.
    """
    if keras.backend.backend() != "tensorflow" or not any(map(_is_own, filter(includes, graph.layers))):
        return {}
    kernels: list[tuple[str, keras.Variable, tuple[int, ...]]] = []
    try:
        model = FlatGraph.of(graph).model()
        copy = rebuild(model, check=False)  # functions of TensorFlow remember what they were traced with
        for layer in filter(_is_own, filter(includes, copy.layers)):
            inner = innermost(layer)
            for at in kernel_positions(layer):
                kernels.append((layer.name, inner.weights[at], channel_axes(inner, at) if per_channel(layer) else ()))
        tracing = _Tracing(copy, kernels)
        symbols = [keras.KerasTensor(weight.shape, weight.dtype) for _, weight, _ in kernels]
        tracing.compute_output_spec([keras.KerasTensor(x.shape, x.dtype) for x in graph_of(copy).inputs], symbols)
    except Exception as error:  # whatever a layer raises; then it stays with its integers, which exports check
        pass_on_full(error)
        return {}
    names = [name for name, _, _ in kernels]
    return {
        names[place]: all(at in tracing.found for at, name in enumerate(names) if name == names[place])
        for place in sorted(tracing.found)
    }


def _is_own(layer: Any) -> bool:
    """Return whether a layer has kernels, and isn't made of Keras' layers alone."""
    parts = flatten_layers(innermost(layer))
    return bool(kernel_positions(layer)) and not all(map(is_of_keras, parts))


class _Tracing(keras.Operation):
    """Calls a model in a graph of TensorFlow and finds what each kernel is computed into there."""

    def __init__(self, model: keras.Model, kernels: list[tuple[str, keras.Variable, tuple[int, ...]]]):
        super().__init__()
        self.model, self.variables = model, [weight for _, weight, _ in kernels]
        self.axes = [axes for _, _, axes in kernels]
        self.found: set[int] = set()

    def call(self, inputs: list[Any], kernels: list[Any]) -> Any:
        varying = {x.name for x in inputs}

        def called(operation: Any) -> Any:
            inner = innermost(operation)  # what pruning makes of a kernel is part of it
            is_layer = isinstance(inner, keras.layers.Layer)

            def call(*args: Any, **kwargs: Any) -> Any:
                if is_layer and asks_for_training(inner):
                    kwargs = {"training": False, **kwargs}
                outputs = inner(*args, **kwargs)
                if is_layer and not isinstance(inner, Parameter):  # the data, though it may be of constants alone
                    varying.update(x.name for x in tree.flatten(outputs) if hasattr(x, "graph"))
                return outputs

            return call

        with keras.StatelessScope(state_mapping=list(zip(self.variables, kernels, strict=True))):
            outputs = run_through_graph(graph_of(self.model), inputs, operation_fn=called)
        made = {x.name: {place: _GRID} for place, x in enumerate(kernels)}
        self.follow(tree.flatten(outputs)[0].graph, varying, made)
        return outputs

    def follow(self, graph: Any, varying: set[str], made: dict[str, dict[int, str]]) -> None:
        """Go through the operations in order; note each kernel of which a product reads something off its grid.

        Args:
            graph: TensorFlow's.
            varying: The names of tensors that are data; more are added.
            made: By the names of tensors that are made of kernels alone, what was computed of each kernel.
        """
        for op in graph.get_operations():
            given = [x for x in op.inputs if x.name in made and x.name not in varying]
            if not any(x.name in varying for x in op.inputs):
                if given:
                    states = self.states(op, {x.name: made[x.name] for x in given})
                    made.update((x.name, states) for x in op.outputs if states)
                continue
            varying.update(x.name for x in op.outputs)
            if _PRODUCT.search(op.type):
                off = [x for x in given if sum(size != 1 for size in x.shape.as_list()) > 1]
                self.found.update(at for x in off for at, state in made[x.name].items() if state == _OFF)
            for body in _bodies(op) if given else ():
                pairs = list(zip(reversed(op.inputs), reversed(body.inputs), strict=False))
                inside = {y.name: made[x.name] for x, y in pairs if x.name in made}
                self.follow(body, {y.name for x, y in pairs if x.name in varying}, inside)

    def states(self, op: Any, given: dict[str, dict[int, str]]) -> dict[int, str]:
        """Return what an operation that reads kernels, and nothing that varies, makes of each."""
        if op.type in ("Shape", "Size", "Rank"):
            return {}
        both = [pair for states in given.values() for pair in states.items()]
        if op.type in _MOVES:
            return {at: _MOVED if state == _GRID and op.type not in _SAME_PLACE else state for at, state in both}
        if op.type in _SCALES:
            for x, scale in zip(op.inputs, reversed(op.inputs), strict=True):
                whole = x.name in given and x.shape == op.outputs[0].shape
                if whole and (op.type == "Mul" or x is op.inputs[0]) and self.stays(given[x.name], _sized(scale, x)):
                    return given[x.name]
        if op.type in _JOINS and len(op.outputs[0].shape) == len(op.inputs[0].shape):
            sizes = zip(op.inputs[0].shape.as_list(), op.outputs[0].shape.as_list(), strict=True)
            if self.stays(dict(both), {axis for axis, (old, new) in enumerate(sizes) if old != new}):
                return {at: _MOVED for at, _ in both}
        return {at: _OFF for at, _ in both}

    def stays(self, states: dict[int, str], along: set[int]) -> bool:
        """Return whether kernels stay on their grids where something differs along some axes: those of channels."""
        return all(
            state != _OFF and (not along or (state == _GRID and along <= set(self.axes[at])))
            for at, state in states.items()
        )


_GRID, _MOVED, _OFF = "on its grid", "on its grid, moved", "off"


def _sized(scale: Any, like: Any) -> set[int]:
    """Return the axes of a tensor along which what it is multiplied by differs."""
    sizes = scale.shape.as_list()
    ahead = len(like.shape) - len(sizes)
    return {ahead + axis for axis, size in enumerate(sizes) if size != 1}


def _bodies(op: Any) -> list[Any]:
    """Return the graphs that an operation of TensorFlow runs."""
    names = [op.get_attr(name).name for name in _BODIES if name in op.node_def.attr]
    return [function_in(op.graph, name) for name in names]
