"""A traced function made again from its graph, after the graph has been changed."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from tfcompress.core.tensorflow_private import forget_function, register_functions


def captured_by(concrete: Any, arguments: int) -> dict[str, Any]:
    """Return what a concrete function captured: {name of the tensor in its graph: variable, or tensor outside}.

    Args:
        concrete: The function.
        arguments: How many of its inputs are arguments; they come first.
    """
    variables = {id(variable.handle): variable for variable in concrete.graph.variables}
    inner = concrete.inputs[arguments:]
    return {x.name: variables.get(id(y), y) for x, y in zip(inner, concrete.captured_inputs, strict=True)}


def called_functions(node: Any) -> list[Any]:
    """Return what in the attributes of a GraphDef's node names functions; each has a `name`, which may be changed."""
    return [function for value in node.attr.values() for function in (value.func, *value.list.func) if function.name]


def function_of(
    graph_def: Any, arguments: Mapping[str, Any], captured: Mapping[str, Any], outputs: Mapping[str, str]
) -> Any:
    """Return a graph as a concrete function.

    Args:
        graph_def: The graph.
        arguments: {name of a tensor in the graph: TensorSpec of the argument that takes its place}.
        captured: {name of a tensor in the graph: variable, or tensor outside, that takes its place}.
        outputs: {name: name of a tensor in the graph}.
    """
    import tensorflow as tf

    replaced = {name.split(":")[0] for name in (*arguments, *captured)}
    rest = _without(graph_def, replaced)
    read = {reference.lstrip("^").split(":")[0] for node in rest.node for reference in node.input}
    read |= {name.split(":")[0] for name in outputs.values()}

    def inference(*tensors: Any) -> dict[str, Any]:
        graph = tf.compat.v1.get_default_graph()
        given = dict(zip(arguments, tensors, strict=True))
        for name, outer in captured.items():
            if isinstance(outer, tf.Variable):
                graph.watch_variable(outer)  # else freezing doesn't know it
            given[name] = graph.capture(outer.handle if isinstance(outer, tf.Variable) else outer)
        given = {name: x for name, x in given.items() if name.split(":")[0] in read}  # a model may not use an input
        made = tf.import_graph_def(rest, input_map=given, return_elements=list(outputs.values()), name="")
        return dict(zip(outputs, made, strict=True))

    signature = list(arguments.values())
    made = tf.function(inference, input_signature=signature, autograph=False).get_concrete_function()
    _register(rest.library, made)
    return made


def _register(library: Any, owner: Any) -> None:
    """Let TensorFlow find the functions of a graph when the graph is run, as long as `owner` lives."""
    for name in register_functions(library):  # what was there before was traced, and has an owner
        weakref.finalize(owner, forget_function, name)


def _without(graph_def: Any, names: set[str]) -> Any:
    """Return a graph without some nodes, nor control edges from them."""
    kept = [node for node in graph_def.node if node.name not in names]
    for node in kept:
        inputs = [x for x in node.input if not (x.startswith("^") and x[1:] in names)]
        del node.input[:]
        node.input.extend(inputs)
    made = type(graph_def)()
    made.CopyFrom(graph_def)
    del made.node[:]
    made.node.extend(kept)
    return made
