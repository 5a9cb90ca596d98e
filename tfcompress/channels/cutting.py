"""Making a model again without some of its channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.layers import Layer

from tfcompress.channels.groups import Analysis
from tfcompress.channels.tracker import Axes
from tfcompress.core.keras_private import copy_trainable
from tfcompress.core.passthrough import PassThrough, innermost
from tfcompress.core.transform import read
from tfcompress.graph.changed_arguments import built_anew
from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.graph.naming import free
from tfcompress.graph.own_weights import Parameter
from tfcompress.graph.rewrite import Call, calls, walk
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.einsum_equations import equation_of
from tfcompress.layers.names import name_of


def cut(
    model: keras.Model,
    analysis: Analysis,
    removed: Mapping[int, np.ndarray],
    offsets: Mapping[str, np.ndarray] | None = None,
) -> keras.Model:
    """Return a functional model without some channels.

    Args:
        model: A flat functional model without wrappers of weights; layers that stay as they are are used again.
        analysis: What `analyse(model)` returned.
        removed: For groups, by their index in `analysis.groups`, the channels to be removed, shape (n,).
        offsets: By the name of a layer with one bias for each output, what is added to that bias before its channels
            are removed, shape (outputs,); the layer gets a bias if it has none.

    Raises:
        ValueError: If a group can't lose channels, or would lose all.

    Example:

    >>> import keras, numpy as np
    >>> from tfcompress.channels import analyse
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")])
    >>> smaller = cut(model, analyse(model), {0: np.array([1])})
    >>> [tuple(weight.shape) for weight in smaller.weights]
    [(4, 2), (2,), (2, 2), (2,)]
    """
    for index, channels in removed.items():
        group = analysis.groups[index]
        if group.reason is not None or len(np.unique(channels)) >= group.size:
            raise ValueError(
                f"Expected channels that can be removed, and one at least to stay. Received: {len(channels)} of "
                f"{group.size} in group {group.name!r}" + (f": {group.reason}." if group.reason else ".")
            )
    return _Cutter(model, analysis, removed, offsets or {}).run()


class _Cutter:
    def __init__(
        self,
        model: keras.Model,
        analysis: Analysis,
        removed: Mapping[int, np.ndarray],
        offsets: Mapping[str, np.ndarray],
    ):
        self.model = model
        self.axes = analysis.axes
        self.offsets = offsets
        group_of, channel_of = analysis.channels
        self.stays = np.ones(len(group_of), bool)
        for index, channels in removed.items():
            self.stays[(group_of == index) & np.isin(channel_of, channels)] = False
        self.changes: dict[str, dict[tuple[int, int], np.ndarray]] = {}  # by layer: (position, axis) -> what is kept
        for (layer, position, axis), site in analysis.tracker.sites.items():
            if not np.all(self.stays[site.labels]):
                self.changes.setdefault(layer, {})[position, axis] = np.flatnonzero(self.stays[site.labels])
        self.new_layers: dict[int, Layer] = {}
        self.reshapes: dict[tuple[int, tuple[int, ...]], Any] = {}
        reshapes = {call.operation.name for call in calls(model) if name_of(call.operation) == "reshape"}
        self.names = {operation.name for operation in graph_of(model).operations} - reshapes

    def run(self) -> keras.Model:
        # Before any layer is called in the new graph: a pinned one needs its weights then.
        for call in calls(self.model):
            operation = call.operation
            changed = operation.name in self.changes or operation.name in self.offsets
            if isinstance(operation, Layer) and changed and id(operation) not in self.new_layers:
                self.new_layers[id(operation)] = self.smaller(operation, call)
        return walk(self.model, self.visit)

    def visit(self, call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        operation = call.operation
        kind = name_of(operation)
        if kind == "reshape" and self.shrinks(self.axes[id(call.outputs[0])]):
            operation = self.reshaping(call)
        if kind == "dotproductattention":
            if keywords.get("scale") is None and len(arguments) < 6:
                keywords["scale"] = float(call.inputs[0].shape[-1]) ** -0.5
            if len(arguments) == 3 and self.widths_part(call) and _is_plain(operation, keywords):
                return _attention(*arguments, keywords["scale"])
        return self.new_layers.get(id(operation), operation)(*arguments, **keywords)

    def widths_part(self, call: Call) -> bool:
        """Return whether queries and values, as wide as each other before, are not any more."""
        query, _, value = call.inputs[:3]
        return bool(query.shape[-1] == value.shape[-1] and self.size(query, 3) != self.size(value, 3))

    def shrinks(self, axes: Axes) -> bool:
        return any(labels is not None and not np.all(self.kept(labels)) for labels in axes)

    def kept(self, labels: np.ndarray) -> np.ndarray:
        return (labels < 0) | self.stays[labels]

    def size(self, x: Any, axis: int) -> int | None:
        """Return how long an axis of a tensor of the old graph will be."""
        labels = self.axes[id(x)][axis]
        return x.shape[axis] if labels is None else int(np.count_nonzero(self.kept(labels)))

    def reshaping(self, call: Call) -> Any:
        """Return a Reshape to the smaller shape."""
        output = call.outputs[0]
        layer = isinstance(call.operation, Layer)
        target = list(innermost(call.operation).target_shape if layer else call.operation.newshape)
        first = len(output.shape) - len(target)  # the layer's has no batch
        for at in range(len(target)):
            if self.axes[id(output)][at + first] is not None:
                target[at] = self.size(output, at + first)
        key = (id(call.operation), tuple(target))
        if key not in self.reshapes:
            old = innermost(call.operation)
            config = {**old.get_config(), "target_shape": tuple(target)} if layer else {}
            made = type(old).from_config(config) if layer else type(old)(tuple(target))
            made.name = free(call.operation.name, self.names)
            self.names.add(made.name)
            self.reshapes[key] = made
        return self.reshapes[key]

    def smaller(self, layer: Layer, call: Call) -> Layer:
        """Return a built layer like `layer` with the channels that stay."""
        if isinstance(layer, PassThrough):
            wrapper = layer.rewrap(self.smaller(layer.layer, call))
            wrapper.build()
            return _like(wrapper, layer)
        values = [read(variable) for variable in layer.variables]
        places = {id(variable): at for at, variable in enumerate(layer.variables)}
        new_bias = layer.name in self.offsets and layer.bias is None
        if layer.name in self.offsets:
            bias = self.offsets[layer.name].astype("float64")
            if new_bias:
                outputs = self.changes.get(layer.name, {}).get(_output_site(layer))
                bias = bias if outputs is None else bias[outputs]
            else:
                values[places[id(layer.bias)]] = values[places[id(layer.bias)]] + bias
        for (position, axis), kept in self.changes.get(layer.name, {}).items():
            at = places[id(layer.weights[position])]
            values[at] = np.take(values[at], kept, axis)
        shapes = [values[places[id(weight)]].shape for weight in layer.weights]
        sizes = _sizes(layer, shapes, len(call.inputs[0].shape))
        if new_bias:
            sizes["use_bias"] = True
        made = built_anew(layer, [self.size(call.inputs[0], at) for at in range(len(call.inputs[0].shape))], **sizes)
        if new_bias:
            made.bias.assign(bias)
            made.bias.trainable = layer.weights[0].trainable
        targets = [variable for variable in made.variables if not new_bias or variable is not made.bias]
        for value, source, target in zip(values, layer.variables, targets, strict=True):
            if tuple(target.shape) != value.shape:
                raise ValueError(
                    f"Expected layer {layer.name!r} of class {type(layer).__name__} to have a weight of shape "
                    f"{value.shape} without its zero channels. Received: {tuple(target.shape)}. Exclude its group."
                )
            target.assign(ops.convert_to_tensor(value, target.dtype))
            if hasattr(source, "trainable"):
                target.trainable = source.trainable
        return _like(made, layer)


def _is_plain(operation: Any, keywords: dict[str, Any]) -> bool:
    extra = operation.is_causal, operation.attn_logits_soft_cap, keywords.get("bias"), keywords.get("mask")
    return all(x is None or x is False for x in extra)


def _attention(query: Any, key: Any, value: Any, scale: float) -> Any:
    """Compute attention in single steps: Keras' own operation takes values as wide as keys alone, on JAX."""
    scores = ops.einsum("btnd,bsnd->bnts", query * scale, key)
    return ops.einsum("bnts,bsne->btne", ops.softmax(scores, axis=-1), value)


def _like(made: Layer, layer: Layer) -> Layer:
    copy_trainable(layer, made)
    if hasattr(layer, "source_names"):
        made.source_names = layer.source_names
    return made


def _output_site(layer: Layer) -> tuple[int, int]:
    """Return the position and axis of the outputs in the weights of a Dense, convolution or separable convolution."""
    kernel = getattr(layer, "pointwise_kernel", None)
    kernel = layer.kernel if kernel is None else kernel
    return next(at for at, weight in enumerate(layer.weights) if weight is kernel), len(kernel.shape) - 1


def _sizes(layer: Layer, shapes: list[tuple[int, ...]], rank: int) -> dict[str, Any]:
    """Return what changes in the attributes of a layer whose weights have become smaller."""
    traits = traits_of(layer)
    if traits.channels == "einsum_dense":
        return {"partial_output_shape": _einsum_output(layer, shapes[0], rank)}
    if traits.channels == "group_normalization":
        return {"groups": shapes[0][0]} if shapes else {}
    if traits.channels == "convolution" and getattr(layer, "groups", 1) > 1:
        filters = shapes[0][-1]
        return {"filters": filters, "groups": filters // (layer.filters // layer.groups)}
    if isinstance(layer, Parameter):
        return {"shape": shapes[0]}
    places = {id(weight): at for at, weight in enumerate(layer.weights)}
    sizes = traits.sizes.items()
    return {name: shapes[places[id(getattr(layer, kernel))]][axis] for name, (kernel, axis) in sizes}


def _einsum_output(layer: Layer, kernel: tuple[int, ...], rank: int) -> tuple[int | None, ...]:
    letters = equation_of(layer, rank)
    assert letters is not None
    shape = layer.partial_output_shape
    shape = list(shape) if isinstance(shape, list | tuple) else [shape]
    made = letters.output[len(letters.output) - len(shape) :]
    return tuple(kernel[letters.kernel.index(letter)] if letter in letters.kernel else None for letter in made)
