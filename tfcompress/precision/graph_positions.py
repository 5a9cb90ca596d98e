"""Places in a graph that need float32 whatever computes there: what makes outputs, and what raw data passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras.layers import Layer

from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.passthrough import Inserted, innermost
from tfcompress.graph.index import GraphIndex
from tfcompress.graph.inputs.symbolic import tables
from tfcompress.graph.rewrite import Call, is_cast
from tfcompress.precision.operation_kinds import is_preprocessing


def ends(graph: GraphIndex, outputs: Sequence[Any]) -> Iterator[int]:
    """Yield the ids of what makes outputs: the last layer with weights, or where tensors meet, and what follows."""
    for x in outputs:
        call = graph.producer(x)
        while call is not None:
            yield id(call.operation)
            weights = [] if isinstance(call.operation, Inserted) else getattr(call.operation, "weights", [])
            call = graph.producer(call.inputs[0]) if len(call.inputs) == 1 and not weights else None


def raw(graph: Sequence[Call], inputs: Sequence[Any]) -> Iterator[int]:
    """Yield the ids of what hands raw data on, without weights, to what must have it as it is.

    That is preprocessing, which brings data of any range into one that is fit for 16 bits, and what takes indices: the
    largest integer up to which all have a number of their own is 2048 in float16 and 256 in bfloat16.

    Args:
        graph: The calls of a flat graph, in order.
        inputs: Its symbolic inputs.
    """
    untouched = {id(x) for x in inputs}
    for call in graph:
        if not getattr(call.operation, "weights", []) and any(id(x) in untouched for x in call.inputs):
            untouched.update(map(id, call.outputs))
    wanted: set[int] = set()
    for call in reversed(graph):
        makes = any(id(x) in wanted for x in call.outputs)
        if makes and any(id(x) in untouched for x in call.outputs):
            yield id(call.operation)
        if makes or _needs_raw_data(call):
            wanted.update(id(x) for x in call.inputs if id(x) in untouched)


def takes_indices(layer: Any) -> bool:
    """Return whether a layer looks something up, itself or in a layer inside of it."""
    return isinstance(layer, Layer) and bool(tables(layer))


def _needs_raw_data(call: Call) -> bool:
    inner = innermost(call.operation)
    if isinstance(inner, Layer):
        return takes_indices(inner) or any(is_preprocessing(part) for part in flatten_layers(inner))
    return is_cast(inner) and not keras.backend.is_float_dtype(inner.dtype)
