"""Walking through a flat functional graph, call by call, to look at it or to make it again."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import tree

from tfcompress.core.keras_private import inbound_nodes, outbound_nodes
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.graph.naming import rename_duplicates


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer or operation in a graph.

    Attributes:
        operation: The layer or operation; one that is shared has several calls.
        arguments: Positional arguments, with symbolic tensors in them.
        keywords: Keyword arguments.
        inputs: All symbolic tensors among these, flat.
        outputs: All symbolic tensors that it returns, flat.
        node: Keras' own record of the call, which says whether two calls are one.
    """

    operation: Any
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    node: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Call) and self.node is other.node

    def __hash__(self) -> int:
        return id(self.node)


def calls(model: keras.Model | FlatGraph) -> list[Call]:
    """Return the calls of a flat functional model, or graph, in an order in which they can be made."""
    return [call_of(node) for node in FlatGraph.of(model).nodes if not node.is_input]


def call_of(node: Any) -> Call:
    """Return the call that Keras recorded as a node."""
    arguments = node.arguments
    return Call(node.operation, arguments.args, arguments.kwargs, tuple(node.input_tensors), tuple(node.outputs), node)


def is_cast(operation: Any) -> bool:
    """Return whether an operation of a graph is Keras' cast."""
    return type(operation).__name__ == "Cast" and type(operation).__module__.startswith("keras.")


Visit = Callable[[Call, tuple[Any, ...], dict[str, Any]], Any]


def rewritten(
    model: keras.Model | FlatGraph,
    visit: Visit,
    enter: Callable[[Any], Any] = lambda x: x,
    changes: Callable[[Call], bool] = lambda call: True,
) -> FlatGraph:
    """Make a flat graph again, with each call done by `visit`.

    Args:
        model: A functional model without nested ones, as `rebuild` returns, or a graph.
        visit: `visit(call, arguments, keywords)` returns what stands for the call's outputs, in their
            structure; the arguments hold tensors of the new graph. `call.operation(*arguments, **keywords)` does what
            the old graph does.
        enter: `enter(x)` returns what stands for an input of the model where calls read it; where the model returns
            it, it stays itself, as its name does.
        changes: Whether a call is visited; one that isn't, and reads nothing that is new, isn't made again either.

    Returns:
        A graph with inputs and outputs in the same structure; layers that `visit` calls are shared with `model`.
    """
    graph = FlatGraph.of(model)
    new: dict[int, Any] = {id(x): enter(x) for x in graph.inputs}

    def fill(x: Any) -> Any:
        return new[id(x)] if keras.utils.is_keras_tensor(x) else x

    for call in calls(graph):
        if not changes(call) and all(new[id(x)] is x for x in call.inputs):
            new.update((id(x), x) for x in call.outputs)
            continue
        arguments, keywords = tree.map_structure(fill, (call.arguments, call.keywords))
        outputs = tree.flatten(visit(call, tuple(arguments), dict(keywords)))
        new.update(zip(map(id, call.outputs), outputs, strict=True))
    new.update((id(x), x) for x in graph.inputs)
    outputs = tree.map_structure(fill, graph.output)
    rename_duplicates(outputs)
    return FlatGraph(graph.input, outputs, graph.name, graph.model_class)


def walk(model: keras.Model, visit: Visit, enter: Callable[[Any], Any] = lambda x: x) -> keras.Model:
    """Return what `rewritten` does as a functional model, with inputs and outputs in the same structure.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.ReLU()])
    >>> def without_relu(call, arguments, keywords):
    ...     drop = isinstance(call.operation, keras.layers.ReLU)
    ...     return arguments[0] if drop else call.operation(*arguments, **keywords)
    >>> [type(layer).__name__ for layer in walk(model, without_relu).layers]
    ['InputLayer', 'Dense']
    """
    return rewritten(model, visit, enter).model()


@contextlib.contextmanager
def calls_forgotten(model: keras.Model) -> Iterator[None]:
    """Let the operations of a functional model forget at the end which symbolic calls they got in the block.

    Else each keeps all that was made of them, as long as it is there itself.
    """
    operations = graph_of(model).operations
    lists = [nodes for operation in operations for nodes in (inbound_nodes(operation), outbound_nodes(operation))]
    counts = [len(nodes) for nodes in lists]
    try:
        yield
    finally:
        for nodes, count in zip(lists, counts, strict=True):
            del nodes[count:]
