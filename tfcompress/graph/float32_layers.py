"""A graph of layers in mixed float16, in float32."""

from __future__ import annotations

from typing import Any

import keras

from tfcompress.core.keras_private import flatten_layers
from tfcompress.graph.rewrite import Call, walk
from tfcompress.layers.names import name_of


def widened(model: keras.Model) -> keras.Model:
    """Return the graph of a flat functional model again, with all layers in float32 whose weights are.

    Args:
        model: A flat functional model of the caller's own, as `rebuild` returns: its layers are those of the new one.

    Example:

    >>> layers = [keras.Input((4,)), keras.layers.Dense(2, dtype="mixed_float16")]
    >>> keras.backend.standardize_dtype(widened(keras.Sequential(layers)).output.dtype)
    'float32'
    """
    for layer in model.layers:
        for part in flatten_layers(layer):
            full = all(keras.backend.standardize_dtype(weight.dtype) != "float16" for weight in part.weights)
            if part.compute_dtype == "float16" and full:
                part.dtype_policy = "float32"

    def visit(call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        narrows = name_of(call.operation) == "cast" and call.operation.dtype == "float16"
        if narrows and keras.backend.is_float_dtype(arguments[0].dtype):
            return arguments[0]
        return call.operation(*arguments, **keywords)

    return walk(model, visit)
