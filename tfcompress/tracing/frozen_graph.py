"""A traced function as one graph with constants in place of its variables, which converters read at once."""

from __future__ import annotations

from typing import Any

from tfcompress.tracing.function_graph import captured_by

LARGEST_GRAPH = 2**30
"""Bytes of constants: a protobuf holds 2**31 at most, and the graph is copied on its way."""


def frozen(concrete: Any, arguments: int) -> Any | None:
    """Return the graph of a traced function with each variable's value as a constant, stored once.

    Args:
        concrete: The concrete function.
        arguments: How many of its inputs are arguments; they come first.

    Returns:
        The `GraphDef`; `None` where something else is done with a variable than to read it at once, as loops do,
        or where the constants are too large for one.
    """
    import tensorflow as tf

    captured = {name.split(":")[0]: outer for name, outer in captured_by(concrete, arguments).items()}
    graph_def = concrete.graph.as_graph_def()
    size = sum(outer.dtype.size * (outer.shape.num_elements() or 0) for outer in captured.values())
    if size > LARGEST_GRAPH or not _only_read(graph_def, captured):
        return None
    first: dict[str, str] = {}
    for node in graph_def.node:
        source = node.input[0] if node.op == "ReadVariableOp" else node.name
        if source not in captured or (node.name == source and isinstance(captured[source], tf.Variable)):
            continue
        outer = captured[source]
        if source in first:
            node.op = "Identity"
            node.input[0] = first[source]
            node.attr.clear()
            node.attr["T"].type = outer.dtype.as_datatype_enum
            continue
        first[source] = node.name
        node.op = "Const"
        del node.input[:]
        node.attr.clear()
        node.attr["dtype"].type = outer.dtype.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(outer.numpy(), outer.dtype))
    handles = [i for i, node in enumerate(graph_def.node) if isinstance(captured.get(node.name), tf.Variable)]
    for place in reversed(handles):  # in place: all constants would be copied
        del graph_def.node[place]
    return graph_def


def _only_read(graph_def: Any, captured: dict[str, Any]) -> bool:
    """Return whether all that a graph does with what it captured is to read values."""
    import tensorflow as tf

    variables = {name for name, outer in captured.items() if isinstance(outer, tf.Variable)}
    if any(outer.dtype == tf.resource for name, outer in captured.items() if name not in variables):
        return False
    return all(
        node.op == "ReadVariableOp" or variables.isdisjoint(x.split(":")[0].lstrip("^") for x in node.input)
        for node in graph_def.node
    )
