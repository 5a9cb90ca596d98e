"""What a quantized model has again and again, written once in an ONNX file, as functions."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

from tfcompress.export.onnx.functions import add, call, parsed
from tfcompress.export.onnx.node_index import captures, index_of

PAIR, BIAS, KERNEL, MATRIX = "q", "b", "k", "w"

_BODIES = {
    # What is rounded to a grid.
    PAIR: """q (x, s, z) => (y) {
        a = QuantizeLinear (x, s, z)
        y = DequantizeLinear (a, s, z)
    }""",
    # A bias: i are the scales of the input, s those of the weights.
    BIAS: """b (x, i, s) => (y) {
        a = Cast <to = 6> (x)
        b = Mul (i, s)
        y = DequantizeLinear <axis = 0> (a, b)
    }""",
    # The kernel of a convolution.
    KERNEL: """k (x, s) => (y) {
        y = DequantizeLinear <axis = 0> (x, s)
    }""",
    # The matrix of a product; its scales are so small that they are 0 as integers.
    MATRIX: """w (x, s) => (y) {
        a = Cast <to = 3> (s)
        y = DequantizeLinear (x, s, a)
    }""",
}


def write_once(proto: Any) -> None:
    """Let functions do what several groups of nodes do, where the file gets smaller by it, in place.

    Args:
        proto: An `onnx.ModelProto`; nodes have no names, and no attributes that say what is so anyway.
    """
    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    found: dict[str, list[tuple[list[Any], Any]]] = collections.defaultdict(list)
    for name, nodes, made in _groups(proto.graph):
        found[name].append((nodes, made))
    used = []
    gone: set[int] = set()
    instead: dict[int, Any] = {}
    for name, groups in found.items():
        saved = sum(sum(node.ByteSize() + 2 for node in nodes) - made.ByteSize() - 2 for nodes, made in groups)
        if saved > parsed(_BODIES[name], opset).ByteSize() + 3:
            used.append(parsed(_BODIES[name], opset))
            gone.update(id(node) for nodes, _ in groups for node in nodes)
            instead.update((id(nodes[-1]), made) for nodes, made in groups)
    kept = [instead.get(id(node), node) for node in proto.graph.node if id(node) not in gone or id(node) in instead]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    add(proto, used)


def _groups(graph: Any) -> Iterator[tuple[str, list[Any], Any]]:
    """Yield the name of a function, the nodes that it may stand for, the last one last, and its call."""
    index = index_of(graph)
    captured = {name for node in graph.node for name in captures(node)} | {value.name for value in graph.output}

    def alone(name: str, kind: str) -> Any | None:
        """Return what makes a tensor that has one reader, if it is such an operator of ONNX' own."""
        node = index.producer(name)
        right = node is not None and node.op_type == kind and not node.domain and name not in captured
        return node if right and len(list(index.readers(name))) == 1 else None

    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.domain:
            continue
        given, output = list(node.input), node.output[0]
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        quantize, cast, product = alone(given[0], "QuantizeLinear"), alone(given[0], "Cast"), alone(given[1], "Mul")
        zeros = alone(given[2], "Cast") if len(given) > 2 else None
        if quantize is not None and list(quantize.input[1:]) == given[1:] and len(given) == 3:
            if not attributes and not quantize.attribute:
                yield PAIR, [quantize, node], call(PAIR, quantize.input, output)
        elif product is not None and len(given) == 2 and attributes == {"axis": 0}:
            source = given[0] if cast is None else cast.input[0]
            yield BIAS, [*([] if cast is None else [cast]), product, node], call(BIAS, [source, *product.input], output)
        elif len(given) == 2 and attributes == {"axis": 0}:
            yield KERNEL, [node], call(KERNEL, given, output)
        elif zeros is not None and zeros.input[0] == given[1] and not attributes:
            yield MATRIX, [zeros, node], call(MATRIX, given[:2], output)
