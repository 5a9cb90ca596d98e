"""A flat graph before it is a model: what rewrites take and return, so that a model is built once, at the end."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops, tree
from keras.layers import Layer

from tfcompress.core.keras_private import graph_map, nodes_in_order, producer, takes_training
from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.graph.recursion_limit import class_of, deep_recursion, functional


class FlatGraph:
    """Recorded calls of layers and operations between inputs and outputs, with what a functional model of them needs.

    Args:
        inputs: Symbolic tensors that `keras.Input` made, in any structure.
        outputs: Symbolic tensors, in any structure.
        name: The model's name.
        model_class: Its class.

    Raises:
        ValueError: If two operations have one name, or an output depends on another input.

    Example:

    >>> x = keras.Input((4,), name="x")
    >>> graph = FlatGraph(x, keras.layers.Dense(2, name="dense")(x), "mine")
    >>> [layer.name for layer in graph.layers], graph.output_names, graph.model().name
    (['x', 'dense'], ['dense'], 'mine')
    """

    def __init__(self, inputs: Any, outputs: Any, name: str, model_class: Any = keras.Model):
        self.input, self.output = inputs, outputs
        self.inputs: list[Any] = tree.flatten(inputs)
        self.outputs: list[Any] = tree.flatten(outputs)
        self.name, self.model_class = name, model_class

    @classmethod
    def of(cls, model: keras.Model | FlatGraph) -> FlatGraph:
        """Return the graph of a flat functional model; a graph is its own."""
        if isinstance(model, FlatGraph):
            return model
        graph = graph_of(model)
        made = cls(graph.input, graph.output, model.name, class_of(model))
        vars(made)["_mapped"] = nodes_in_order(graph), graph.operations
        return made

    @functools.cached_property
    def _mapped(self) -> tuple[list[Any], list[Any]]:
        with deep_recursion():
            return graph_map(self.inputs, self.outputs)

    @property
    def nodes(self) -> list[Any]:
        """The recorded calls, in an order in which they can be made."""
        return self._mapped[0]

    @property
    def operations(self) -> list[Any]:
        """The layers and operations, each once."""
        return self._mapped[1]

    @property
    def layers(self) -> list[Layer]:
        """The layers, those of the inputs too."""
        return [operation for operation in self.operations if isinstance(operation, Layer)]

    @property
    def output_names(self) -> list[str]:
        """The name of each output: that of the operation that makes it."""
        return [str(producer(x).name) for x in self.outputs]

    def model(self) -> keras.Model:
        """Return a functional model of the graph."""
        return functional(self.input, self.output, self.name, self.model_class)

    def __call__(self, inputs: Any, training: bool = False) -> Any:
        """Return the outputs, as a functional model does."""
        return tree.pack_sequence_as(self.output, self.run(inputs, self.outputs, training))

    def run(self, inputs: Any, wanted: Sequence[Any], training: bool = False) -> list[Any]:
        """Return what tensors of the graph are; no more is computed than they need, or kept.

        Args:
            inputs: A value for each of the inputs, in any structure.
            wanted: Symbolic tensors of the graph.
            training: As a model is called.
        """
        read = {id(x) for x in wanted}
        path: list[tuple[Any, set[int]]] = []  # each with the values that it is the last to read
        for node in reversed(self.nodes):
            if not node.is_input and any(id(x) in read for x in node.outputs):
                inputs_of = {id(x) for x in node.input_tensors}
                path.append((node, inputs_of - read))
                read |= inputs_of
        given = zip(self.inputs, tree.flatten(inputs), strict=True)
        values = {id(x): ops.convert_to_tensor(value, dtype=x.dtype) for x, value in given}
        for node, last in reversed(path):
            arguments, keywords = node.arguments.fill_in(values)
            made = tree.flatten(caller(node.operation, training)(*arguments, **keywords))
            values.update(zip(map(id, node.outputs), made, strict=True))
            for x in last:
                del values[x]
        return [values[id(x)] for x in wanted]


def caller(operation: Any, training: bool = False) -> Callable[..., Any]:
    """Return what calls an operation as a model does: Keras' default for a layer within another is the layer's own."""
    if not isinstance(operation, Layer) or not takes_training(operation):
        call: Callable[..., Any] = operation
        return call
    return lambda *args, **kwargs: operation(*args, **{**kwargs, "training": training})
