"""The values of all tensors of a graph, for one random sample."""

from __future__ import annotations

from typing import Any

import keras
from keras import tree

from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.graph.rewrite import calls
from tfcompress.graph.sample_inputs.samples import random_inputs


def sample_values(model: keras.Model) -> dict[int, Any]:
    """Return the values of all tensors of a flat functional model for one random sample, by `id`; nothing is changed.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> tuple(sample_values(model)[id(model.outputs[0])].shape)
    (1, 3)
    """
    graph = graph_of(model)
    made = dict(zip(map(id, tree.flatten(graph.input)), tree.flatten(random_inputs(model, 1)), strict=True))
    values: dict[int, Any] = {id(x): made[id(x)] for x in graph.inputs}
    with keras.StatelessScope():
        for call in calls(model):

            def fill(x: Any) -> Any:
                return values[id(x)] if keras.utils.is_keras_tensor(x) else x

            arguments, keywords = tree.map_structure(fill, (call.arguments, call.keywords))
            outputs = tree.flatten(call.operation(*arguments, **keywords))
            values.update(zip(map(id, call.outputs), outputs, strict=True))
    return values
