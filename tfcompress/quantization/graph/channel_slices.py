"""Layers that do what a call of the graph does: with some of its channels, or in place of an operation."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers as L

from tfcompress.core.keras_private import copy_trainable
from tfcompress.core.passthrough import PassThrough
from tfcompress.core.sharding import gathered
from tfcompress.core.transform import read
from tfcompress.graph.affine_forms import constant_map
from tfcompress.graph.rewrite import Call
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.product_layer import MatMul


def sliced(call: Call, start: int, end: int) -> L.Layer | None:
    """Return a built layer that does to channels `start` to `end` what an affine map does to them among all.

    `None` where the map has a wrapper, such as a mask, or is of a kind that knows no channels.
    """
    operation, channels = call.operation, call.inputs[0].shape[-1]
    shape = (*call.inputs[0].shape[:-1], end - start)
    if isinstance(operation, PassThrough) or len(call.arguments) != 1 + (constant_map(call) is not None):
        return None
    name, dtype = f"{operation.name}_{start}_{end}", call.outputs[0].dtype

    def part(values: Any) -> Any:
        values = np.asarray(values).reshape(-1)
        return values[start:end] if len(values) == channels and channels > 1 else values

    def number(values: Any) -> Any:
        found = part(values)
        return found.tolist() if len(found) > 1 else float(found[0])

    constant = constant_map(call)
    if constant is not None:
        return L.Rescaling(*map(number, constant), name=name, dtype=dtype)
    kind = name_of(operation)
    if kind == "rescaling":
        return L.Rescaling(number(operation.scale), number(operation.offset), name=name, dtype=operation.dtype_policy)
    if kind == "normalization":
        mean, variance = (part(gathered(x)).tolist() for x in (operation.mean, operation.variance))
        made = L.Normalization(axis=-1, mean=mean, variance=variance, name=name, dtype=operation.dtype_policy)
        made.build(shape)
        return made
    if kind != "batchnormalization":
        return None
    made = L.BatchNormalization.from_config({**operation.get_config(), "name": name, "axis": -1})
    made.build(shape)
    for old, new in zip(operation.weights, made.weights, strict=True):
        new.assign(part(read(old)))
        new.trainable = old.trainable
    copy_trainable(operation, made)
    return made


def tensors_of(arguments: Any, keywords: Any) -> tuple[Any]:
    """Return the tensors among the arguments of an operation, as a layer takes them: one, or a list."""
    found = [x for x in keras.tree.flatten((arguments, keywords)) if keras.utils.is_keras_tensor(x)]
    return (found[0],) if len(found) == 1 else (found,)


_LAYERS: dict[str, Any] = {
    "matmul": MatMul,
    "add": L.Add,
    "subtract": L.Subtract,
    "multiply": L.Multiply,
    "maximum": L.Maximum,
    "minimum": L.Minimum,
}
_ACTIVATIONS = ("relu", "relu6")


def has_layer(call: Call) -> bool:
    """Return whether `layer_of` knows a layer for a call, or its operation is one.

    A layer that merges aligns ranks otherwise than an operation does, and refuses batches of different sizes.
    """
    names = ("concatenate", "hardsigmoid", *_ACTIVATIONS)
    name = name_of(call.operation)
    two = name in _LAYERS and len(call.inputs) == 2
    merges = two and (name == "matmul" or _are_alike([x.shape for x in call.inputs]))
    return isinstance(call.operation, L.Layer) or constant_map(call) is not None or name in names or merges


def _are_alike(shapes: list[tuple[int | None, ...]]) -> bool:
    batches = {size for shape in shapes for size in shape[:1]} - {None}
    return len({len(shape) for shape in shapes}) == 1 and len(batches) < 2


def layer_of(call: Call) -> L.Layer:
    """Return a layer that does what an operation of the graph does: one of those for which `has_layer` is true."""
    constant, name = constant_map(call), name_of(call.operation)
    made: L.Layer
    if constant is None and name in _LAYERS:
        made = _LAYERS[name](name=call.operation.name, dtype=call.outputs[0].dtype)
        made.build([x.shape for x in call.inputs])
    elif name in _ACTIVATIONS:
        made = L.Activation(name, name=call.operation.name, dtype=call.outputs[0].dtype)
    elif name_of(call.operation) == "hardsigmoid":
        made = L.Activation("hard_sigmoid", name=call.operation.name, dtype=call.outputs[0].dtype)
    elif constant is None:
        made = L.Concatenate(axis=call.operation.axis, name=call.operation.name, dtype=call.outputs[0].dtype)
        made.build([x.shape for x in call.inputs])
    else:
        scale, offset = (part.tolist() for part in constant)
        made = L.Rescaling(scale, offset, name=call.operation.name, dtype=call.outputs[0].dtype)
    return made
