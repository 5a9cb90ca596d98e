"""Reshapes that aren't needed, and those that a runtime needs to be told nothing for."""

from __future__ import annotations

import math
from typing import Any

from tfcompress.export.onnx.detached_constants import without_large_constants
from tfcompress.export.onnx.node_index import captures, index_of


def reshape_less(proto: Any) -> None:
    """Take out what reshapes to the shape that is there; let Flatten make rows, which needs no shape to be stored.

    Args:
        proto: An `onnx.ModelProto`, changed in place.
    """
    import onnx

    graph, index = proto.graph, index_of(proto.graph)
    reshapes = [node for node in graph.node if node.op_type == "Reshape" and not node.domain]
    if not reshapes:
        return
    inferred = onnx.shape_inference.infer_shapes(without_large_constants(proto)).graph
    shapes = {value.name: _sizes(value) for value in (*inferred.value_info, *inferred.input, *inferred.output)}
    gone: dict[str, str] = {}
    spare = {node.input[1] for node in reshapes}
    for node in reshapes:
        before, after = (shapes.get(name) for name in (node.input[0], node.output[0]))
        if not before or not after or before[0] != after[0] or None in before[1:]:
            continue  # at most the first size is free then, and that is the same
        if before == after and not index.is_output(node.output[0]):
            gone[node.output[0]] = gone.get(node.input[0], node.input[0])
        elif after[1:] == (math.prod(before[1:]),):  # type: ignore[arg-type]
            node.op_type = "Flatten"
            del node.input[1:], node.attribute[:]
    for node in graph.node:
        node.input[:] = [gone.get(name, name) for name in node.input]
    kept = [node for node in graph.node if not gone.keys() & set(node.output)]
    del graph.node[:]
    graph.node.extend(kept)
    spare -= {name for node in kept for name in (*node.input, *captures(node))}
    for place in reversed([i for i, tensor in enumerate(graph.initializer) if tensor.name in spare]):
        del graph.initializer[place]


def _sizes(value: Any) -> tuple[int | None, ...] | None:
    """Return the sizes of a tensor, None for those that are free; None: they aren't known."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
