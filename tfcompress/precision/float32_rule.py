"""The rule of what stays float32, and why: for the layer, for what it computes, or for its place in the graph."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import tree
from keras.layers import Layer

from tfcompress.core.keras_private import attention_dropout, flatten_layers, sublayers
from tfcompress.core.passthrough import Inserted, innermost
from tfcompress.graph import LayerChoice
from tfcompress.graph.index import index_of
from tfcompress.graph.rewrite import Call
from tfcompress.graph.selectors import Layers
from tfcompress.layers.catalogue import CATALOGUE, traits_of, traits_of_base
from tfcompress.layers.names import is_of_keras, plain_name
from tfcompress.layers.traits import UNKNOWN
from tfcompress.precision.custom_calls import operations_in_half
from tfcompress.precision.graph_positions import ends, raw
from tfcompress.precision.operation_kinds import has_policy, is_preprocessing
from tfcompress.quantization.numerics.float16_range import LARGEST

SOFTMAX = "a softmax, or another exponential, needs float32's range"
NORM = "Keras computes its norm in the layer's own precision"
RAW = "sees raw data, of whatever range"
HANDS_ON = "passes raw data or indices on"
MASK = "compares data to make a mask"
LOSS = "adds a loss of its outputs"
CODE = "holds code that may need float32"
INSIDE = "its call holds {name}: {why}"
OUTPUT = "makes an output of the model"
CONSTANT = "holds a constant beyond 65504"
NEEDS_RANGE = "exponentials, powers and sums need float32's range"
ASKED = "keep_float32 names it"
FAKE_QUANT = "fake-quant"

_LAYERS = {"exponential": SOFTMAX, "norm": NORM, "mask": MASK, "loss": LOSS, "code": CODE}
"""Of a layer, or what it derives from, by what the catalogue says; "range" holds of operations alone."""

_ATTENTION = (L.MultiHeadAttention, L.GroupQueryAttention)


def named(keep_float32: Layers) -> LayerChoice:
    """Return what `keep_float32` names; `None` names nothing."""
    return LayerChoice([] if keep_float32 is None else keep_float32, "keep_float32")


def reasons(model: keras.Model, choice: LayerChoice, policy: str) -> dict[int, str]:
    """Return why layers and operations stay float32, by id; those that the policy is for aren't in it.

    Args:
        model: A flat functional model.
        choice: What was asked to stay float32; may be of nothing.
        policy: "mixed_float16" or "mixed_bfloat16".
    """
    graph = index_of(model)
    last, before = set(ends(graph, model.outputs)), set(raw(graph, model.inputs))
    found: dict[int, str] = {}
    for call in graph:
        operation = call.operation
        if isinstance(operation, Inserted):
            found[id(operation)] = FAKE_QUANT
            continue
        why = _why_asked(operation, choice)
        if isinstance(operation, Layer):
            why = why or (_why_layer(operation, call, policy) if has_policy(innermost(operation)) else "")
        else:
            why = why or _why_operation(call, policy)
        why = why or (OUTPUT if id(operation) in last else "") or (HANDS_ON if id(operation) in before else "")
        if why:
            found.setdefault(id(operation), why)
    return found


def _why_asked(operation: Any, choice: LayerChoice) -> str:
    if not isinstance(operation, Layer):
        return ASKED if choice.function is None and choice.includes(operation) else ""
    inner = innermost(operation)
    # Of all, so that the choice knows every name; and a function sees the layer itself, not a wrapper of this package.
    parts = [operation, *flatten_layers(inner, include_self=inner is not operation)]
    asked = [choice.includes(part) for part in parts]
    return ASKED if any(asked) else ""


def _why_layer(layer: Layer, call: Call, policy: str) -> str:
    """Return why a layer stays float32 as a whole: for itself, for a layer inside of it, or for what it computes."""
    inner = innermost(layer)
    return _why_parts(inner) or _why_attention(inner, call) or _why_code(inner, call, policy)


def _why_parts(layer: Any) -> str:
    why = _why_part(layer)
    if isinstance(layer, _ATTENTION):  # what it computes with the softmax inside is asked of its call
        return why or (SOFTMAX if attention_dropout(layer) else "")
    return why or next((why for part in sublayers(layer) if (why := _why_parts(innermost(part)))), "")


def _why_attention(layer: Any, call: Call) -> str:
    # Keras' fused attention has its softmax in float32. It is not for scores that are returned, nor for several axes.
    if not isinstance(layer, _ATTENTION):
        return ""
    scores = call.keywords.get("return_attention_scores") or len(call.outputs) > 1
    return SOFTMAX if scores or len(call.inputs[0].shape) > 3 else ""


def _why_code(layer: Any, call: Call, policy: str) -> str:
    if is_of_keras(layer):
        return ""
    for one in operations_in_half(layer, call, policy.removeprefix("mixed_")) or ():
        why = "" if isinstance(one.operation, Layer) else _why_operation(one, policy)
        if why:
            return INSIDE.format(name=plain_name(type(one.operation)), why=why)
    return ""


def _why_part(layer: Any) -> str:
    known = _LAYERS.get(traits_of_base(layer).float32, "")
    if known:
        return known
    if is_preprocessing(layer):
        return RAW
    if isinstance(layer, L.Dot) and layer.normalize:
        return NORM
    if layer.activity_regularizer is not None:
        return LOSS
    used = (getattr(layer, name, None) for name in ("activation", "recurrent_activation"))
    return SOFTMAX if any(f is not None and _is_exponential(f) for f in used) else ""


def _is_exponential(activation: Any) -> bool:
    """Return whether an activation is called like one that needs float32's range, also where it is a user's own."""
    return CATALOGUE.get(plain_name(activation), UNKNOWN).float32 == "exponential"


def _why_operation(call: Call, policy: str) -> str:
    if traits_of(call.operation).float32 in ("exponential", "range"):
        return NEEDS_RANGE
    if policy == "mixed_float16":
        given = [x for x in tree.flatten((call.arguments, call.keywords)) if not keras.utils.is_keras_tensor(x)]
        kept = [x for x in vars(call.operation).values() if isinstance(x, float | np.floating)]
        if any(_is_large(x) for x in (*given, *kept)):
            return CONSTANT
    return ""


def _is_large(x: Any) -> bool:
    if isinstance(x, bool | str) or x is None:
        return False
    try:
        values = np.asarray(x if isinstance(x, int | float) else keras.ops.convert_to_numpy(x))
        finite = values[np.isfinite(values)]
        return bool(np.abs(finite).max(initial=0.0) > LARGEST)
    except (TypeError, ValueError):
        return False
