"""Calls of functions in a TensorFlow graph, replaced by what the functions do."""

from __future__ import annotations

from typing import Any

from tfcompress.core.tensorflow_private import body_as_graph

CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def inline(graph: Any) -> bool:
    """Replace the calls of a graph, and those in what comes in their place, by the operations of their functions.

    The names of these begin as the name of the call does, with that of the layer. What loops and branches do stays in
    functions, and calls therein do too. The order in which the graph did what changes nothing is forgotten: in that
    of a graph with several outputs TensorFlow's optimizers leave what they have replaced.

    Args:
        graph: a GraphDef, with its library of functions.

    Returns:
        Whether there were any.
    """
    functions = {function.signature.name: function for function in graph.library.function}
    calls = [node for node in graph.node if node.op in CALLS and node.attr["f"].func.name in functions]
    found = bool(calls)
    while calls:
        inlined = _replace(graph, calls.pop(0), functions)
        calls += [node for node in inlined if node.op in CALLS and node.attr["f"].func.name in functions]
    for node in graph.node if found else ():
        ordered = [x for x in node.input if not x.startswith("^")]
        if len(ordered) < len(node.input):
            del node.input[:]
            node.input.extend(ordered)
    return found


def _replace(graph: Any, call: Any, functions: dict[str, Any]) -> list[Any]:
    function = functions[call.attr["f"].func.name]
    body, flat = body_as_graph(function)
    arguments = [arg.name for arg in function.signature.input_arg]
    before = [x for x in call.input if x.startswith("^")]
    given = dict(zip(arguments, (x for x in call.input if not x.startswith("^")), strict=True))
    scope = call.name.rpartition("/")[0]
    taken = {node.name for node in graph.node}
    if any(f"{scope}/{node.name}" in taken for node in body.node if node.name not in given):
        scope = call.name

    def outside(reference: str) -> str:
        name, _, place = reference.lstrip("^").partition(":")
        control = "^" if reference.startswith("^") else ""
        if name in given:
            return control + (given[name].split(":")[0] if control else given[name])
        return f"{control}{scope}/{name}" + (f":{place}" if place else "")

    results = [outside(flat.get(x, x)) for x in (function.ret[arg.name] for arg in function.signature.output_arg)]
    ends = {f"^{x.split(':')[0]}" for x in results}
    ends |= {outside(f"^{x}") for x in function.control_ret.values()}
    made = []
    for node in body.node:
        if node.name in given:
            continue
        copy = type(node)()
        copy.CopyFrom(node)
        copy.name = f"{scope}/{node.name}"
        copy.attr.pop("_class", None)
        del copy.input[:]
        copy.input.extend([*map(outside, node.input), *before])
        made.append(copy)
    kept = [node for node in graph.node if node is not call and node.name != call.name]
    for node in (*kept, *made):
        if any(x.lstrip("^").split(":")[0] == call.name for x in node.input):
            inputs = [y for x in node.input for y in _instead(x, call.name, results, sorted(ends))]
            del node.input[:]
            node.input.extend(inputs)
    del graph.node[:]
    graph.node.extend([*kept, *made])
    return [node for node in graph.node if node.name in {x.name for x in made}]


def _instead(reference: str, call: str, results: list[str], ends: list[str]) -> list[str]:
    name, _, place = reference.lstrip("^").partition(":")
    if name != call:
        return [reference]
    return ends if reference.startswith("^") else [results[int(place or 0)]]
