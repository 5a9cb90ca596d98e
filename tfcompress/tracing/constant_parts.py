"""What a traced graph computes of variables and constants alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tfcompress.tracing.function_graph import captured_by, function_of
from tfcompress.tracing.trace import Trace

_KEPT = ("FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")
"""What stays in the graph even if it rounds a constant: the file has operators of its own for it."""

_EMPTY = ("Fill", "Zeros", "ZerosLike", "OnesLike", "Range")
"""What makes many values of few: a file needs them no more than the graph does."""


def constant_tensors(concrete: Any, captured: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors of a function that don't depend on its arguments, by name.

    Args:
        concrete: The function.
        captured: {name of a tensor in its graph: variable, or tensor outside}.
    """
    import tensorflow as tf

    found: dict[str, Any] = {}
    for op in concrete.graph.get_operations():
        if op.type == "ReadVariableOp":
            variable = captured.get(op.inputs[0].name)
            readers = op.inputs[0].consumers()
            fixed = isinstance(variable, tf.Variable) and all(
                not reader.type.startswith("Assign") for reader in readers
            )
        elif op.type == "Placeholder":
            fixed = op.outputs[0].name in captured and op.outputs[0].dtype != tf.resource
        else:
            fixed = op.type == "Const" or (
                bool(op.inputs)
                and all(x.name in found for x in op.inputs)
                and op.type not in (*_KEPT, *_EMPTY)
                and not op.op_def.is_stateful
                and not any(attr.type in ("func", "list(func)") for attr in op.op_def.attr)
            )
        if fixed:
            found |= {x.name: x for x in op.outputs}
    return found


def values_of(trace: Trace, tensors: Sequence[Any]) -> list[Any]:
    """Return the values of tensors that don't depend on the arguments, as arrays.

    Args:
        trace: Of a model.
        tensors: In its graph.
    """
    import tensorflow as tf

    captured = captured_by(trace.concrete, len(trace.inputs))
    names = [x.name for x in tensors]
    graph_def, used = reachable(trace.concrete.graph.as_graph_def(), names, set())
    others = {name: outer for name, outer in captured.items() if name.split(":")[0] in used}
    with tf.device("/cpu:0"):
        made = function_of(graph_def, {}, others, {str(place): name for place, name in enumerate(names)})
        values = made()
    return [values[str(place)].numpy() for place in range(len(names))]


def reachable(graph_def: Any, outputs: Iterable[str], ends: set[str]) -> tuple[Any, set[str]]:
    """Return what of a graph some tensors need.

    Args:
        graph_def: The graph.
        outputs: Names of tensors.
        ends: Names of tensors behind which nothing is needed.

    Returns:
        The part of the graph, and the names of its nodes, with those of `ends`.
    """
    nodes = {node.name: node for node in graph_def.node}
    stop = {name.split(":")[0] for name in ends}
    stack, seen = [name.split(":")[0] for name in outputs], set()
    while stack:
        name = stack.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in stop:
            stack += [x.split(":")[0] for x in nodes[name].input if not x.startswith("^")]
    made = type(graph_def)(versions=graph_def.versions, library=graph_def.library)
    made.node.extend(node for node in graph_def.node if node.name in seen)
    for node in made.node:  # what is only to be done before does nothing that a file could
        inputs = [x for x in node.input if not x.startswith("^")]
        del node.input[:]
        node.input.extend(inputs)
    return made, seen
