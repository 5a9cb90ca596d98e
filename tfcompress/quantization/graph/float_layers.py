"""Layers that compute in floating point among quantized ones, on purpose."""

from __future__ import annotations

from typing import Any

import keras

from tfcompress.core.keras_private import context_of_its_own, producer, producing_node
from tfcompress.core.passthrough import Inserted, PassThrough
from tfcompress.graph.flat_graph import FlatGraph

LEFT_OUT = "left out by layers="
"""Why a layer stays float that the user didn't choose."""

WEIGHTS_ALONE = "its config quantizes weights alone"
"""Why a layer stays float beside others whose activations have ranges."""

COMPUTED = "its call computes with the kernel first"
"""Why a layer stays float whose kernel is on a grid, and what it multiplies by isn't."""


@keras.saving.register_keras_serializable(package="tfcompress")
class KeptFloat(PassThrough):
    """Calls a layer without a kernel that has an integer form, and is to compute in floating point all the same.

    It stands in the quantized model, so that a saved and loaded one, and what is exported of it, know of it too.

    Args:
        layer: The layer.
        reason: Why, for a reader of the summary.

    Example:

    >>> import keras, numpy as np
    >>> kept = KeptFloat(keras.layers.Concatenate(name="boxes"), reason="left out by layers=")
    >>> kept.name, kept([np.zeros((1, 2)), np.ones((1, 1))]).shape
    ('boxes', TensorShape([1, 3]))
    """

    temporary = True
    own_arguments = ("reason",)

    def __init__(self, layer: keras.layers.Layer, reason: str, **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.reason = str(reason)

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Call the layer."""
        with context_of_its_own():
            return self.layer(inputs, *args, **self._inner_kwargs(kwargs, training))


def kept_reason(operation: Any) -> str | None:
    """Return why a layer is kept float, looking through the wrappers of this package; `None` if it isn't."""
    while isinstance(operation, PassThrough):
        if isinstance(operation, KeptFloat):
            return operation.reason
        operation = operation.layer
    return None


def with_float_outputs(graph: FlatGraph) -> FlatGraph:
    """Return a graph that returns what layers kept float make, where it returned that quantized."""

    def unrounded(x: Any) -> Any:
        node = producing_node(x)
        if not isinstance(node.operation, Inserted):
            return x
        before = node.input_tensors[0]
        return x if kept_reason(producer(before)) is None else before

    outputs = keras.tree.map_structure(unrounded, graph.output)
    same = zip(keras.tree.flatten(outputs), graph.outputs, strict=True)
    if all(new is old for new, old in same):
        return graph
    return FlatGraph(graph.input, outputs, graph.name, graph.model_class)
