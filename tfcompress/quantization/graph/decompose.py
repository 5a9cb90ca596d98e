"""Splitting layers between whose steps a quantizer has to stand, as the catalogue says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from tfcompress.core.keras_private import build_shapes, producer, producing_node
from tfcompress.core.passthrough import PassThrough, innermost
from tfcompress.core.transform import carry
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import inner_weights, with_transforms
from tfcompress.graph.affine_forms import constant_map
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.index import index_of
from tfcompress.graph.naming import free
from tfcompress.graph.rewrite import Call, rewritten
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.names import name_of, name_of_function
from tfcompress.quantization.graph.both_ways import can_split, merged, parts_of
from tfcompress.quantization.graph.op_policies import AFFINE, KERNEL

Tensor = Any


def lower(
    graph: keras.Model | FlatGraph, includes: Callable[[Any], bool] = lambda layer: True, static: bool = False
) -> FlatGraph:
    """Split what a quantizer has to look into; the graph computes the same.

    Fused activations become layers of their own; swish and hard swish a gate and a product; separable convolutions
    a depthwise and a pointwise one; attention two matrix products and a softmax; Bidirectional two LSTMs; averages
    of several tensors a sum and a factor. Where an affine map makes whole numbers real, as Rescaling does with
    pixels, a cast before it does that. The transforms on their weights go with them.

    Args:
        graph: A flat functional model or graph; its layers are changed and used in the result.
        includes: Which layers are split; the others are left whole.
        static: Whether activations get ranges, without which Bidirectional layers are left whole.

    Returns:
        A graph; an output that a new layer makes has that layer's name.
    """
    return _Lowering(FlatGraph.of(graph), includes, static).run()


class _Lowering:
    def __init__(self, model: FlatGraph, includes: Callable[[Any], bool], static: bool):
        self.model = model
        self.static = static
        self.includes = includes
        self.graph = index_of(model)
        self.names = {call.operation.name for call in self.graph} | {x.name for x in model.inputs}
        self.activations: dict[int, Any] = {}
        self.parts: dict[int, tuple[Any, Any]] = {}

    def run(self) -> FlatGraph:
        return rewritten(self.model, self.visit, changes=self.changes)

    def changes(self, call: Call) -> bool:
        """Return whether `visit` may do anything else than the call itself."""
        operation = call.operation
        decomposition = traits_of(operation).decomposition
        if self.is_made_real(call):
            return True
        if not self.includes(operation):
            return False
        if decomposition in _SPLITS and self.is_split(operation):
            return True
        splits = decomposition == "separable"
        return splits or (self.has_kernel(operation) and self.take_activation(operation) is not None)

    def visit(self, call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        operation = call.operation
        arguments = self.made_real(call, arguments)
        split = _SPLITS.get(traits_of(operation).decomposition)
        if split is not None and self.is_split(operation) and self.includes(operation):
            made = split(self, call, arguments, keywords)
            if made is not None:
                return made
        if not self.has_kernel(operation) or not self.includes(operation):
            return operation(*arguments, **keywords)
        activation = self.take_activation(operation)
        if traits_of(operation).decomposition == "separable":
            outputs = arguments[0]
            for part in self.separable(operation):
                outputs = part(outputs)
        else:
            outputs = operation(*arguments, **keywords)
        return self.activate(outputs, activation, operation.name)

    def is_split(self, operation: Any) -> bool:
        """Return whether an operation that has parts is looked into: a wrapper only if its transforms go with them."""
        both_ways = traits_of(operation).decomposition == "both_ways"
        if both_ways and not self.static:
            return False
        return not isinstance(operation, PassThrough) or (both_ways and isinstance(operation, CompressedLayer))

    def made_real(self, call: Call, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments of an affine map with a cast behind whole numbers, to the dtype that it gives."""
        if not self.is_made_real(call):
            return arguments
        place = next(place for place, given in enumerate(call.arguments) if given is call.inputs[0])
        cast = ops.cast(arguments[place], call.outputs[0].dtype)
        producer(cast).name = self.name(f"{call.operation.name}_cast")
        return (*arguments[:place], cast, *arguments[place + 1 :])

    @staticmethod
    def is_made_real(call: Call) -> bool:
        """Return whether a call is an affine map that gives real numbers for whole ones."""
        real = [keras.backend.is_float_dtype(x.dtype) for x in (*call.inputs[:1], *call.outputs)]
        affine = traits_of(call.operation).quantization == AFFINE
        return real == [False, True] and (affine or constant_map(call) is not None)

    @staticmethod
    def has_kernel(operation: Any) -> bool:
        traits = traits_of(operation)
        return traits.decomposition == "separable" or traits.quantization == KERNEL

    def name(self, wanted: str) -> str:
        made = free(wanted, self.names)
        self.names.add(made)
        return made

    def take_activation(self, operation: Any) -> Any:
        """Return a layer's fused activation, `None` if it has none, and leave it linear."""
        inner = innermost(operation)
        if id(inner) not in self.activations:
            activation = getattr(inner, "activation", None)
            linear = activation is None or name_of_function(activation) == "linear"
            self.activations[id(inner)] = None if linear else activation
            if not linear:
                inner.activation = keras.activations.linear
        return self.activations[id(inner)]

    def activate(self, x: Tensor, activation: Any, prefix: str) -> Tensor:
        """Apply an activation as layers of their own."""
        if activation is None:
            return x
        name = name_of_function(activation)
        gate = {"silu": "sigmoid", "hardsilu": "hard_sigmoid"}.get(name)
        if gate:
            gated = layers.Activation(gate, name=self.name(f"{prefix}_{gate}"), dtype=x.dtype)(x)
            return layers.Multiply(name=self.name(f"{prefix}_{name}"), dtype=x.dtype)([x, gated])
        # Of names like "<lambda>", what TensorFlow takes as the name of a scope.
        label = re.sub(r"[^A-Za-z0-9_]+", "_", getattr(activation, "__name__", name)).strip("_") or "activation"
        return layers.Activation(activation, name=self.name(f"{prefix}_{label}"), dtype=x.dtype)(x)

    def separable(self, layer: Any) -> tuple[Any, Any]:
        """Return a separable convolution's two parts, with its weights and their transforms."""
        if id(layer) in self.parts:
            return self.parts[id(layer)]
        inner = innermost(layer)
        rank = inner.rank
        depthwise: Any = (layers.DepthwiseConv1D if rank == 1 else layers.DepthwiseConv2D)(
            inner.kernel_size,
            strides=inner.strides,
            padding=inner.padding,
            depth_multiplier=inner.depth_multiplier,
            data_format=inner.data_format,
            dilation_rate=inner.dilation_rate,
            use_bias=False,
            depthwise_regularizer=inner.depthwise_regularizer,
            depthwise_constraint=inner.depthwise_constraint,
            name=self.name(f"{layer.name}_depthwise"),
            dtype=inner.dtype_policy,
        )
        pointwise: Any = (layers.Conv1D if rank == 1 else layers.Conv2D)(
            inner.filters,
            1,
            data_format=inner.data_format,
            use_bias=inner.use_bias,
            kernel_regularizer=inner.pointwise_regularizer,
            kernel_constraint=inner.pointwise_constraint,
            bias_regularizer=inner.bias_regularizer,
            bias_constraint=inner.bias_constraint,
            name=self.name(f"{layer.name}_pointwise"),
            dtype=inner.dtype_policy,
        )
        between = list(inner.pointwise_kernel.shape)[-2]
        shape = build_shapes(inner)["input_shape"]
        depthwise.build(shape)
        pointwise.build((*depthwise.compute_output_shape(shape)[:-1], between))
        depthwise.trainable = pointwise.trainable = inner.trainable
        sources = [inner.depthwise_kernel, inner.pointwise_kernel, *([inner.bias] if inner.use_bias else [])]
        targets = [*depthwise.weights, *pointwise.weights]
        for source, target in zip(sources, targets, strict=True):
            carry(source, target)
        made = (
            _carry(layer, sources[:1], depthwise),
            _carry(layer, sources[1:], pointwise),
        )
        for part in made:
            part.source_names = (layer.name, *getattr(layer, "source_names", ()))
        self.parts[id(layer)] = made
        return made


def _carry(wrapper: Any, sources: list[keras.Variable], layer: Any) -> Any:
    """Wrap `layer` with the transforms that a wrapper has for the weights that `layer` took over, in order."""
    if not isinstance(wrapper, CompressedLayer):
        return layer
    weights = inner_weights(wrapper)
    places = {id(source): index for index, source in enumerate(sources)}
    moved = [(places[id(weights[at])], t) for at, t in wrapper.transforms if id(weights[at]) in places]
    if not moved:
        return layer
    new = with_transforms(layer, [(at, type(t).from_config(t.get_config())) for at, t in moved])
    carry(wrapper.step, new.step)
    for (_, old), (_, fresh) in zip(moved, new.transforms, strict=True):
        for key, state in vars(old).items():
            if isinstance(state, keras.Variable):
                carry(state, getattr(fresh, key))
    return new


# How what is split is split, each by a function of (lowering, call, arguments, keywords) that returns the outputs, or
# None where it is left as it is.


def _activation(lowering: _Lowering, call: Call, arguments: Any, keywords: Any) -> Any:
    return lowering.activate(arguments[0], getattr(keras.activations, name_of(call.operation)), call.operation.name)


def _hard_silu(lowering: _Lowering, call: Call, arguments: Any, keywords: Any) -> Any:
    return lowering.activate(arguments[0], keras.activations.hard_silu, call.operation.name)


def _average(lowering: _Lowering, call: Call, arguments: Any, keywords: Any) -> Any:
    tensors, name = arguments[0], call.operation.name
    total = layers.Add(name=lowering.name(f"{name}_sum"), dtype=call.outputs[0].dtype)(tensors)
    return layers.Rescaling(1.0 / len(tensors), name=lowering.name(f"{name}_mean"), dtype=call.outputs[0].dtype)(total)


def _scaled_sum(lowering: _Lowering, call: Call, arguments: Any, keywords: Any) -> Any:
    (first, second), name = arguments[0], call.operation.name
    scaled = layers.Rescaling(call.operation.scale, name=lowering.name(f"{name}_scale"), dtype=second.dtype)(second)
    return layers.Add(name=lowering.name(f"{name}_add"), dtype=first.dtype)([first, scaled])


def _attention(lowering: _Lowering, call: Call, arguments: Any, keywords: Any) -> Any:
    operation = call.operation
    options = dict(zip(("query", "key", "value", "bias", "mask", "scale"), arguments, strict=False))
    options.update(keywords)
    plain = not operation.is_causal and operation.attn_logits_soft_cap is None
    if not plain or options.get("bias") is not None or options.get("mask") is not None:
        return None  # what is masked with a large negative number has no range
    query, key, value = (options[part] for part in ("query", "key", "value"))
    if any(len(x.shape) != 4 for x in (query, key, value)) or key.shape[2] != query.shape[2]:
        return None
    name = operation.name
    scale = options.get("scale")
    scale = float(query.shape[-1]) ** -0.5 if scale is None else float(scale)
    query = ops.transpose(query * scale, (0, 2, 1, 3))  # there the factor becomes part of the projection before it
    key = ops.transpose(key, (0, 2, 3, 1))
    scores = ops.matmul(query, key)
    shares = layers.Softmax(name=lowering.name(f"{name}_softmax"), dtype=scores.dtype)(scores)
    mixed = ops.matmul(shares, ops.transpose(value, (0, 2, 1, 3)))
    return ops.transpose(mixed, (0, 2, 1, 3))


def _product(lowering: _Lowering, call: Call, arguments: Any, keywords: Any) -> Any:
    """relu6(x + 3) * (1 / 6), as MobileNetV3 has it, is a hard sigmoid."""
    found = constant_map(call)
    clipped = lowering.graph.producer(call.inputs[0]) if len(call.inputs) == 1 else None
    if found is None or clipped is None or abs(float(found[0].reshape(-1)[0]) * 6 - 1) > 1e-6:
        return None
    inner = clipped.operation
    six = name_of(inner) == "relu6" or (name_of(inner) == "relu" and getattr(inner, "max_value", None) == 6)
    before = lowering.graph.producer(clipped.inputs[0]) if six else None
    shift = constant_map(before) if before is not None else None
    if before is None or shift is None or not _is(shift[0], 1.0) or not _is(shift[1], 3.0):
        return None
    x = arguments[0]
    for _ in range(2):  # back over relu6 and x + 3, in the new graph
        x = producing_node(x).input_tensors[0]
    return layers.Activation("hard_sigmoid", name=lowering.name(f"{call.operation.name}_gate"), dtype=x.dtype)(x)


def _both_ways(lowering: _Lowering, call: Call, arguments: Any, keywords: Any) -> Any:
    operation, layer = call.operation, innermost(call.operation)
    if not all(can_split(layer, each) for each in lowering.graph if each.operation is operation):
        return None  # its two layers can't be used beside itself
    if id(operation) not in lowering.parts:
        forward, backward = parts_of(layer, lowering.name)
        lowering.parts[id(operation)] = tuple(_carry(operation, x.weights, x) for x in (forward, backward))
    return merged(layer, lowering.parts[id(operation)], arguments[0], lowering.name)


def _is(value: Any, number: float) -> bool:
    return bool(abs(value.reshape(-1) - number).max() < 1e-6)


_SPLITS: dict[str, Callable[..., Any]] = {
    "silu": _activation,
    "hard_silu": _hard_silu,
    "average": _average,
    "scaled_sum": _scaled_sum,
    "attention": _attention,
    "both_ways": _both_ways,
    "gate_factor": _product,
}
"""By the decomposition that the catalogue names; separable convolutions are split with their weights."""
