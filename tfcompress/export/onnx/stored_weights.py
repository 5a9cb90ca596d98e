"""Weights stored as integers and computed with in float."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcompress.export.onnx.node_index import inner_graphs
from tfcompress.export.plan.planned_weights import SMALLEST_STORED, PlannedWeights, digest

WIDE = "weights='auto' or 'coded' stores them in fewer"
"""Why weights of fewer than 8 bits are stored in 8."""


def store_in_int8(graph: Any, weights: PlannedWeights, reasons: Mapping[str, str] | None = None) -> None:
    """Store the planned weights of an ONNX graph, subgraphs too, as int8 behind Cast and Mul, in blocks and a Reshape.

    ONNX Runtime computes these two when it loads the file, so it runs as fast as the float32 file. (A
    DequantizeLinear in their place it computes at each run.)

    Args:
        graph: an `onnx.GraphProto`, changed in place.
        weights: those that are integers; they note how those of fewer than 8 bits are stored.
        reasons: {digest of a weight's integers: why it has no kernel of fewer bits}; None: none was looked for.
    """
    import onnx

    nodes, scales = [], []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_STORED or len(tensor.dims) < 2:
            continue
        found = weights.find(onnx.numpy_helper.to_array(tensor))
        if found is None:
            continue
        if found.bits < 8:
            key = digest(found.integers)
            weights.stored.setdefault(key, {})["int8"] = WIDE if reasons is None else reasons.get(key, "")
        name = tensor.name
        stored, scale, cast = f"{name}/int8", f"{name}/scale", f"{name}/cast"
        product = name if found.block is None else f"{name}/blocks"
        integers, factors = found.blocks() if found.block is not None else (found.integers, found.scale)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(integers), stored))
        factors = factors.reshape(()) if factors.size == 1 else factors
        scales.append(onnx.numpy_helper.from_array(factors, scale))
        nodes.append(onnx.helper.make_node("Cast", [stored], [cast], cast, to=onnx.TensorProto.FLOAT))
        nodes.append(onnx.helper.make_node("Mul", [cast, scale], [product], f"{name}/mul"))
        if found.block is not None:
            shape = f"{name}/shape"
            scales.append(onnx.numpy_helper.from_array(np.array(found.shape, np.int64), shape))
            nodes.append(onnx.helper.make_node("Reshape", [product, shape], [name], f"{name}/reshape"))
    graph.initializer.extend(scales)
    others = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *others])
    for node in graph.node:
        for inner in inner_graphs(node):
            store_in_int8(inner, weights, reasons)
