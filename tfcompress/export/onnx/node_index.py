"""What makes and what reads each tensor of an ONNX graph, and what the graphs inside its nodes read of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tfcompress.graph.index import TensorIndex


def index_of(graph: Any) -> TensorIndex[Any, str]:
    """Return the index of an `onnx.GraphProto` by name; what inner graphs read counts as an output.

    >>> import onnx
    >>> make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    >>> ends = [info(name, onnx.TensorProto.FLOAT, [3]) for name in "xy"]
    >>> nodes = [make("Neg", ["x"], ["a"]), make("Clip", ["a", "", "x"], ["y"])]
    >>> index = index_of(onnx.helper.make_graph(nodes, "graph", ends[:1], ends[1:]))
    >>> index.producer("a").op_type, [node.op_type for node in index.readers("x")], index.is_output("y")
    ('Neg', ['Neg', 'Clip'], True)
    """
    captured = (name for node in graph.node for name in captures(node))
    nodes = ((node, node.input, node.output) for node in graph.node)
    return TensorIndex(nodes, [*(value.name for value in graph.output), *captured])


def inner_graphs(node: Any) -> Iterator[Any]:
    """Yield the graphs in a node's attributes: the bodies of loops and conditions."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def captures(node: Any) -> Iterator[str]:
    """Yield the names that the graphs inside a node read; some are their own, others of the graphs around them."""
    for inner in inner_graphs(node):
        for each in inner.node:
            yield from each.input
            yield from captures(each)
        yield from (value.name for value in inner.output)
