"""Weights stored as integers and computed with in float."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.export.onnx.node_index import inner_graphs
from tfcompress.export.plan.planned_weights import SMALLEST_STORED, PlannedWeights


def store_in_int8(graph: Any, weights: PlannedWeights) -> None:
    """Store the planned weights of an ONNX graph, subgraphs too, as int8 behind Cast and Mul.

    ONNX Runtime computes these two when it loads the file, so it runs as fast as the float32 file. (A
    DequantizeLinear in their place it computes at each run.)

    Args:
        graph: an `onnx.GraphProto`, changed in place.
        weights: those that are integers.
    """
    import onnx

    nodes, scales = [], []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_STORED or len(tensor.dims) < 2:
            continue
        found = weights.find(onnx.numpy_helper.to_array(tensor))
        if found is None:
            continue
        name = tensor.name
        stored, scale, cast = f"{name}__int8", f"{name}__scale", f"{name}__cast"
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(found.integers), stored))
        scales.append(onnx.numpy_helper.from_array(found.scale, scale))
        nodes.append(onnx.helper.make_node("Cast", [stored], [cast], cast, to=onnx.TensorProto.FLOAT))
        nodes.append(onnx.helper.make_node("Mul", [cast, scale], [name], f"{name}__mul"))
    graph.initializer.extend(scales)
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *others])
    for node in graph.node:
        for inner in inner_graphs(node):
            store_in_int8(inner, weights)
