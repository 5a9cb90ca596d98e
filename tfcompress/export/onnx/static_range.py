"""A model whose activations have ranges: integers wherever there are integer kernels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tfcompress.export.onnx.boundary import integer_ends
from tfcompress.export.onnx.fake_quant_nodes import layer_of
from tfcompress.export.onnx.graph_editor import Graph
from tfcompress.export.onnx.propagate import carry
from tfcompress.export.onnx.qdq_kernels import guard_float_kernels, integer_kernels
from tfcompress.export.onnx.scalars import quantize_scalars
from tfcompress.export.onnx.simplify import global_pools, simplify
from tfcompress.export.plan.planned_weights import PlannedWeights
from tfcompress.runtime.integer_io import METADATA, QUANTIZERS


def static(proto: Any, weights: PlannedWeights, inference_io: str, detached: Mapping[str, bytes] | None = None) -> None:
    """Put an ONNX model with quantized activations in the form that ONNX Runtime runs in integers.

    Args:
        proto: an `onnx.ModelProto` of opset 18 with a QuantizeLinear and DequantizeLinear for each fake-quantizer;
            changed in place.
        weights: those that are integers.
        inference_io: "float32", or "int8" or "uint8": the dtype of inputs and outputs that are quantized.
        detached: the values of constants that it lacks, by name.
    """
    graph = Graph(proto, detached)
    names = name_after_layers(graph)
    simplify(graph)
    carry(graph)
    global_pools(graph)
    carry(graph)
    quantize_scalars(graph)
    integer_kernels(graph, weights)
    guard_float_kernels(graph)
    ends = integer_ends(graph, inference_io) if inference_io != "float32" else {}
    graph.finish()
    record(proto, QUANTIZERS, names)
    if ends:
        record(proto, METADATA, ends)


def name_after_layers(graph: Graph) -> dict[str, str]:
    """Call each dequantized tensor as the Keras layer that quantized it.

    Returns:
        {layer name: tensor name}; they differ where the tensor is an output of the model, or the name is taken.
    """
    names: dict[str, str] = {}
    for node in graph.of_type("QuantizeLinear"):
        layer = layer_of(node)
        if layer is None:
            continue
        dequantize = _dequantized(graph, node)
        if dequantize is None:
            continue
        tensor = dequantize.output[0]
        if not graph.is_output(tensor):
            graph.rename(tensor, graph.fresh(layer))
            tensor = dequantize.output[0]
        node.name = graph.fresh(f"{tensor}/quantize")
        names.setdefault(layer, tensor)
    return names


def _dequantized(graph: Graph, node: Any) -> Any | None:
    """Return the DequantizeLinear behind a QuantizeLinear, through transpositions."""
    stack = graph.readers(node.output[0])
    while stack:
        reader = stack.pop()
        if reader.op_type == "DequantizeLinear":
            return reader
        if reader.op_type in ("Transpose", "Reshape"):
            stack.extend(graph.readers(reader.output[0]))
    return None


def record(proto: Any, key: str, values: Any) -> None:
    """Write an entry of the file's metadata, as JSON."""
    entry = proto.metadata_props.add()
    entry.key, entry.value = key, json.dumps(values)
