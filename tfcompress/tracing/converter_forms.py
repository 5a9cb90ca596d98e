"""What TensorFlow's graphs say in ways that converters can't read, said plainly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tfcompress.graph.index import TensorIndex
from tfcompress.tracing.function_graph import called_functions
from tfcompress.tracing.inlining import inline

_APART = ("_XlaMustCompile", "_noinline")
"""What keeps a function from becoming part of the graph that calls it."""

_EXTREMES = ("ArgMax", "ArgMin")

_MARKS = ("SelectV2", "LogicalAnd", "Less", "BitwiseAnd", "Bitcast")
"""What Keras gives a negative zero another value with, each the first or second argument of the one before."""


def make_plain(graph: Any) -> bool:
    """Change a graph so that it computes the same with operations that file formats have.

    Keras compiles grouped convolutions with XLA, in a function of their own, which tf2onnx can't look into: what is in
    such functions becomes part of the graph; in loops, they become functions like others. And its `argmax` and `argmin`
    tell -0.0 from 0.0 by looking at the sign's bit, an operation that neither format has; they become TensorFlow's own.

    Args:
        graph: a GraphDef, with its library of functions.

    Returns:
        Whether there was anything to change.
    """
    changed = [inline(graph), _forget_signs(graph.node, ())]
    for function in graph.library.function:
        changed += [_call_plainly(thing) for thing in (function, *function.node_def)]
        changed.append(_forget_signs(function.node_def, function.ret.values()))
    if any(changed):
        _rename_functions(graph)
    return any(changed)


def _rename_functions(graph: Any) -> None:
    """Give all functions other names: TensorFlow knows one function of a name in a process."""
    names = {function.signature.name: f"{function.signature.name}_plain" for function in graph.library.function}
    for function in graph.library.function:
        function.signature.name = names[function.signature.name]
    for gradient in graph.library.gradient:
        gradient.function_name = names.get(gradient.function_name, gradient.function_name)
        gradient.gradient_func = names.get(gradient.gradient_func, gradient.gradient_func)
    for node in (*graph.node, *(node for function in graph.library.function for node in function.node_def)):
        for function in called_functions(node):
            function.name = names.get(function.name, function.name)


def _call_plainly(thing: Any) -> bool:
    found = [name for name in _APART if name in thing.attr and thing.attr[name].b]
    for name in found:
        del thing.attr[name]
    return bool(found)


def _forget_signs(nodes: Any, results: Iterable[str]) -> bool:
    """Let extremes be found in what Keras hasn't marked the negative zeros of; remove what only marks them."""
    if not any(node.op in _EXTREMES for node in nodes):
        return False
    index = TensorIndex(((node, map(_name, node.input), [node.name]) for node in nodes), map(_name, results))
    idle: list[Any] = []
    for node in nodes:
        if node.op not in _EXTREMES:
            continue
        reader, read = node, index.producer(_name(node.input[0]))
        if read is not None and read.op == "Reshape":  # of an extreme over all axes
            reader, read = read, index.producer(_name(read.input[0]))
        if read is not None and _marks(read, _MARKS, index):
            index.set_input(reader, 0, read.name, _name(read.input[2]))
            reader.input[0] = read.input[2]
            idle.append(read)
    changed = bool(idle)
    gone: set[str] = set()
    while idle:
        node = idle.pop()
        if node.name in gone or index.readers(node.name) or index.is_output(node.name):
            continue
        gone.add(node.name)
        idle += filter(None, [index.producer(_name(x)) for x in node.input])
        index.remove(node, map(_name, node.input), [node.name])
    if changed:
        kept = [node for node in nodes if node.name not in gone]
        del nodes[:]
        nodes.extend(kept)
    return changed


def _marks(node: Any, kinds: tuple[str, ...], index: TensorIndex[Any, str]) -> bool:
    if node is None or node.op != kinds[0]:
        return False
    return len(kinds) == 1 or any(_marks(index.producer(_name(x)), kinds[1:], index) for x in node.input[:2])


def _name(reference: str) -> str:
    """Return the name of the node in a reference to one of its outputs, or to its end."""
    return reference.lstrip("^").split(":")[0]
