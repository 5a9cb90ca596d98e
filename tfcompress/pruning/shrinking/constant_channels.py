"""Which channels of which tensors have one and the same value everywhere, whatever the model's inputs are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.channels import elementwise_rules, shape_rules
from tfcompress.channels.rule_table import rule_of
from tfcompress.channels.tracker import Axes, Step, Tracker
from tfcompress.core.passthrough import innermost
from tfcompress.core.transform import read
from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.graph.own_weights import Parameter
from tfcompress.graph.rewrite import Call, calls
from tfcompress.layers.catalogue import traits_of, traits_of_function
from tfcompress.layers.names import name_of
from tfcompress.pruning.shrinking.constant_outputs import MAKERS, ZERO, Values, is_zero


def constants(model: keras.Model) -> dict[int, Values]:
    """Return what is known of the values of each symbolic tensor of a flat functional model, by its `id`.

    Known are the channels that zero kernels leave with a bias, and what batch normalization, activations, pooling,
    padding, sums, products and further layers make of them, in inference.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "sigmoid", kernel_initializer="zeros")])
    >>> constants(model)[id(model.outputs[0])][1].tolist()
    [0.5, 0.5]
    """
    known: dict[int, Values] = {id(x): {} for x in graph_of(model).inputs}
    for call in calls(model):
        found = _values_of(call, [known[id(x)] for x in call.inputs])
        for output, values in zip(call.outputs, found, strict=True):
            known[id(output)] = {axis: value for axis, value in values.items() if not np.all(np.isnan(value))}
    return known


def _values_of(call: Call, inputs: list[Values]) -> list[Values]:
    inner = innermost(call.operation)
    kind, channels = name_of(inner), "parameter" if isinstance(inner, Parameter) else traits_of(inner).channels
    found: list[Values] = [{} for _ in call.outputs]
    if getattr(call.operation, "pinned", None) or call.keywords.get("training"):
        pass  # it does in inference what others do in training
    elif channels in MAKERS:
        found = [_activated(inner, MAKERS[channels](inner, call, inputs[0]))]
    elif kind == "batchnormalization":
        found = [_normalized(inner, call, inputs[0])]
    elif not any(inputs):
        pass
    elif kind in _COMBINED:
        found = [_combined(call, inputs, _COMBINED[kind])]
    elif kind in ("einsum", "matmul", "dotproductattention"):
        found = [_product(call, inputs)]
    elif channels == "unary" and traits_of(inner).quantization == "transparent":
        found = [inputs[0] for _ in call.outputs]
    elif channels == "unary" or kind in ("rescaling", "prelu"):
        found = [_evaluated(call, inputs[0], kind) for _ in call.outputs]
    elif any(getattr(inner, name, None) for name in ("fill_value", "initial")):
        pass  # a Resizing that fills up borders, a maximum with a start
    elif kind in _MOVING or rule_of(inner) in _MOVING_RULES:
        found = _moved(call, inputs)
        if kind in _ZERO_ALONE or kind.startswith("zeropadding"):
            found = [{axis: np.where(is_zero(v), v, np.nan) for axis, v in values.items()} for values in found]
    return found


_MOVING = ("mean", "max", "min", "amax", "amin", "sum")
_MOVING_RULES = (
    *(
        elementwise_rules.local,
        elementwise_rules.global_pooling,
        shape_rules.permute,
        shape_rules.expand_dims,
        shape_rules.squeeze,
    ),
    *(
        shape_rules.repeat,
        shape_rules.repeat_vector,
        shape_rules.concatenate,
        shape_rules.get_item,
        shape_rules.split,
        shape_rules.flatten,
        shape_rules.reshape,
    ),
)
_ZERO_ALONE = ("sum", "resizing")


# What moves values about ------------------------------------------------------------------------------


def _moved(call: Call, inputs: list[Values]) -> list[Values]:
    """Send numbers through the rule of a call, and see which values they carry."""
    tracker = Tracker()
    sent: list[Axes] = []
    held = [np.zeros(0)]
    for x, values in zip(call.inputs, inputs, strict=True):
        sent.append(tuple(tracker.fresh(len(values[at])) if at in values else None for at in range(len(x.shape))))
        held += [values[at] for at in sorted(values)]
    value = np.concatenate(held)
    received = rule_of(call.operation)(Step(tracker, call, tuple(sent)))
    component = tracker.components()
    low, high = np.full(len(value), np.inf), np.full(len(value), -np.inf)
    np.minimum.at(low, component, np.nan_to_num(value, nan=-np.inf))
    np.maximum.at(high, component, np.nan_to_num(value, nan=np.inf))
    same = np.where(low == high, low, np.nan)[component] if len(value) else value
    same = np.append(same, np.nan)  # for -1: what came from elsewhere
    return [{at: same[labels] for at, labels in enumerate(axes) if labels is not None} for axes in received]


# Value by value ---------------------------------------------------------------------------------------


def _evaluated(call: Call, values: Values, kind: str) -> Values:
    x = call.inputs[0]
    if "float" not in keras.backend.standardize_dtype(x.dtype):
        return {}
    found: Values = {}
    for axis, value in values.items():
        if kind == "prelu":
            found[axis] = np.where(value >= -ZERO, value, np.nan)
            continue
        shape = [-1 if at == axis else 1 for at in range(len(x.shape))]
        tensor = ops.convert_to_tensor(np.nan_to_num(value).reshape(shape), x.dtype)
        rest = call.arguments[1:]
        out = np.asarray(ops.convert_to_numpy(ops.cast(call.operation(tensor, *rest, **call.keywords), "float32")))
        if out.size == value.size:
            found[axis] = np.where(np.isnan(value), np.nan, out.reshape(-1).astype("float64"))
    return found


def _activated(layer: Any, values: Values) -> Values:
    activation = getattr(layer, "activation", None)
    if activation in (None, keras.activations.linear):
        return values
    if traits_of_function(activation).channels != "unary":
        return {}
    found: Values = {}
    for axis, value in values.items():
        tensor = ops.convert_to_tensor(np.nan_to_num(value), layer.compute_dtype)
        out = np.asarray(ops.convert_to_numpy(ops.cast(activation(tensor), "float32"))).astype("float64")
        found[axis] = np.where(np.isnan(value), np.nan, out)
    return found


def _normalized(layer: Any, call: Call, values: Values) -> Values:
    axis = layer.axis % len(call.inputs[0].shape)
    value = values.get(axis)
    if value is None:
        value = np.full(call.inputs[0].shape[axis], np.nan)
    scale = 1 / np.sqrt(read(layer.moving_variance).astype("float64") + layer.epsilon)
    scale = scale * (read(layer.gamma) if layer.gamma is not None else 1.0)
    offset = read(layer.beta).astype("float64") if layer.beta is not None else 0.0
    return {axis: np.where(scale == 0, offset, (value - read(layer.moving_mean)) * scale + offset)}


def _combined(call: Call, inputs: list[Values], function: Callable[..., np.ndarray]) -> Values:
    output = call.outputs[0]
    rank = len(output.shape)
    leaves = keras.tree.flatten((call.arguments, call.keywords))
    numbers = {id(x): values for x, values in zip(call.inputs, inputs, strict=True)}
    leaves = [x for x in leaves if x is not None]
    if any(not keras.utils.is_keras_tensor(x) and np.size(x) != 1 for x in leaves):
        return {}
    found: Values = {}
    for axis in range(rank):
        size = output.shape[axis]
        if not any(axis - rank + len(x.shape) in numbers[id(x)] for x in call.inputs):
            continue
        parts = []
        for x in leaves:
            if not keras.utils.is_keras_tensor(x):
                parts.append(np.full(size, float(x)))
                continue
            value = numbers[id(x)].get(axis - rank + len(x.shape))
            parts.append(value if value is not None and len(value) == size else np.full(size, np.nan))
        with np.errstate(all="ignore"):
            found[axis] = functools.reduce(function, parts)
            if function is np.add and name_of(call.operation) == "average":
                found[axis] = found[axis] / len(parts)
    return found


def _times(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.where(is_zero(first) | is_zero(second), 0.0, first * second)


def _both_zero(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.where(is_zero(first) & is_zero(second), 0.0, np.nan)


_COMBINED: dict[str, Callable[..., np.ndarray]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": _times,
    "average": np.add,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "customscalelayer": _both_zero,  # of InceptionResNet: x + scale * y
}


def _product(call: Call, inputs: list[Values]) -> Values:
    """Zero is what has a zero factor along the same letter."""
    kind = name_of(call.operation)
    if kind == "dotproductattention":
        values = inputs[2]
        return {axis: np.where(is_zero(v), 0.0, np.nan) for axis, v in values.items() if axis in (2, 3)}
    if kind == "matmul":
        rank = len(call.outputs[0].shape)
        outputs = [(0, axis) for axis in range(rank - 1)] + [(1, rank - 1)]
        if any(len(x.shape) != rank for x in call.inputs):
            return {}
        found = {axis: inputs[at][axis] for axis, (at, _) in enumerate(outputs) if axis in inputs[at]}
        return {axis: np.where(is_zero(v), 0.0, np.nan) for axis, v in found.items()}
    terms, _, output = innermost(call.operation).subscripts.replace(" ", "").partition("->")
    found = {}
    for term, values in zip(terms.split(","), inputs, strict=True):
        for axis, value in values.items():
            if "." not in terms and term[axis] in output:
                at = output.index(term[axis])
                zero = is_zero(value) | is_zero(found.get(at, np.full(len(value), np.nan)))
                found[at] = np.where(zero, 0.0, np.nan)
    return found
