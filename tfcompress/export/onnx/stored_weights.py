"""Weights stored as integers and computed with in float."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tfcompress.export.onnx.grid_recovery import recover_any

SMALLEST_STORED = 256
"""Elements from which a quarter of the bytes pays for two nodes."""


def store_in_int8(graph: Any, bits: int = 8) -> None:
    """Store the float32 constants of an ONNX graph that lie on a grid, subgraphs too, as int8 behind Cast and Mul.

    ONNX Runtime computes these two when it loads the file, so it runs as fast as the float32 file. (A
    DequantizeLinear in their place it computes at each run.)

    Args:
        graph: an `onnx.GraphProto`, changed in place.
        bits: of the grid.
    """
    import onnx

    nodes, scales = [], []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_STORED or len(tensor.dims) < 2:
            continue
        found = recover_any(onnx.numpy_helper.to_array(tensor), bits)
        if found is None:
            continue
        name = tensor.name
        stored, scale, cast = f"{name}__int8", f"{name}__scale", f"{name}__cast"
        tensor.CopyFrom(onnx.numpy_helper.from_array(found.values, stored))
        scales.append(onnx.numpy_helper.from_array(found.scale, scale))
        nodes.append(onnx.helper.make_node("Cast", [stored], [cast], cast, to=onnx.TensorProto.FLOAT))
        nodes.append(onnx.helper.make_node("Mul", [cast, scale], [name], f"{name}__mul"))
    graph.initializer.extend(scales)
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *others])
    for inner in _subgraphs(graph):
        store_in_int8(inner, bits)


def _subgraphs(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs
