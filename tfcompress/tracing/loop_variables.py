"""Variables that loops read, as values that they get: a value may be an argument of the graph, a variable is frozen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tfcompress.core.tensorflow_private import unique_number

_FUNCTIONS = {
    "While": ("cond", "body"), "StatelessWhile": ("cond", "body"),
    "PartitionedCall": ("f",), "StatefulPartitionedCall": ("f",),
}  # fmt: skip
"""What hands its inputs to functions, and the attributes that name these."""

_LOOPS = ("While", "StatelessWhile")


def pass_value(graph_def: Any, handle: str, argument: str, spec: Any) -> bool:
    """Let the loops of a graph get the value of a variable which they read, in place.

    Args:
        graph_def: The graph, with its library of functions.
        handle: Name of the node that is the variable's handle.
        argument: Name of the node whose value they get.
        spec: TensorSpec of the value.

    Returns:
        Whether any do now. Where a loop does something else with the variable than to read it, none does.
    """
    functions = {function.signature.name: function for function in graph_def.library.function}
    loops = [(node, i) for node in graph_def.node if node.op in _LOOPS for i, x in enumerate(node.input) if x == handle]
    found: set[tuple[str, int]] = set()
    if not loops or not all(_follow(graph_def.node, node, i, functions, found) for node, i in loops):
        return False
    every = [*graph_def.node, *(node for function in functions.values() for node in function.node_def)]
    used = Counter(node.attr[key].func.name for node in every for key in _FUNCTIONS.get(node.op, ()))
    if any(used[name] > 1 for name, _ in found):
        return False
    for node, i in loops:
        node.input[i] = argument
        _retype(node, i, spec)
    for name, place in found:
        _make_value(functions[name], place, spec)
    _rename({name: functions[name] for name, _ in found}, every)
    return True


def _rename(functions: dict[str, Any], nodes: Iterable[Any]) -> None:
    """Give functions that were changed other names, as freezing does: TensorFlow keeps the first of each name."""
    names = {name: f"{re.sub(r'(_frozen)?_[0-9]+$', '', name)}_frozen_{unique_number()}" for name in functions}
    for name, function in functions.items():
        function.signature.name = names[name]
    for node in nodes:
        for key in _FUNCTIONS.get(node.op, ()):
            called = node.attr[key].func
            called.name = names.get(called.name, called.name)


def _follow(
    nodes: Iterable[Any], node: Any, place: int, functions: dict[str, Any], found: set[tuple[str, int]]
) -> bool:
    """Collect the arguments of functions that an input of a node goes to; return False if one is more than read."""
    outputs = {f"{node.name}:{place}", f"{node.name}:output:{place}", *([node.name] if place == 0 else [])}
    if any(x in outputs for other in nodes for x in other.input):
        return False
    for key in _FUNCTIONS[node.op]:
        name = node.attr[key].func.name
        if name not in functions:
            return False
        found.add((name, place))
        function = functions[name]
        argument = function.signature.input_arg[place].name
        for other in function.node_def:
            for i, x in enumerate(other.input):
                if x != argument or other.op == "ReadVariableOp":
                    continue
                if other.op not in _FUNCTIONS or not _follow(function.node_def, other, i, functions, found):
                    return False
    return True


def _retype(node: Any, place: int, spec: Any) -> None:
    """Say of an input of a loop or call that it is a value, and of the output that returns it."""
    for key in ("T", "Tin"):
        if key in node.attr:
            node.attr[key].list.type[place] = spec.dtype.as_datatype_enum
    shapes = node.attr["output_shapes"].list.shape if "output_shapes" in node.attr else []
    if len(shapes) > place:
        shapes[place].CopyFrom(spec.shape.as_proto())


def _make_value(function: Any, place: int, spec: Any) -> None:
    """Let a function get a value where it got a variable's handle."""
    dtype, argument = spec.dtype.as_datatype_enum, function.signature.input_arg[place]
    argument.ClearField("handle_data")
    argument.type = dtype
    function.arg_attr.pop(place, None)
    function.resource_arg_unique_id.pop(place, None)
    for output in function.signature.output_arg:
        if function.ret[output.name] == argument.name:
            output.type = dtype
            output.ClearField("handle_data")
    renamed = {}
    for node in function.node_def:
        if argument.name in node.input and node.op == "ReadVariableOp":
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = dtype
            renamed[f"{node.name}:value:0"] = f"{node.name}:output:0"
        elif argument.name in node.input:
            for i in (i for i, x in enumerate(node.input) if x == argument.name):
                _retype(node, i, spec)
    for node in function.node_def:
        node.input[:] = [renamed.get(x, x) for x in node.input]
    for key, x in function.ret.items():
        function.ret[key] = renamed.get(x, x)
