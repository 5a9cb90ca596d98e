"""Integer inputs and outputs: the model without its first QuantizeLinear and its last DequantizeLinear."""

from __future__ import annotations

import numpy as np

from tfcompress.export.onnx.graph_editor import Graph
from tfcompress.export.onnx.simplify import quantized_as
from tfcompress.export.plan.scheme import no_grid

SHIFT = 128
"""From uint8, which the kernels take, to int8."""


def integer_ends(graph: Graph, dtype: str) -> dict[str, dict[str, float | int]]:
    """Give the float inputs and outputs, which are quantized, an integer dtype.

    Args:
        graph: of a model with quantized activations of 8 bits.
        dtype: "uint8", or "int8": the same with the zero point 128 lower.

    Returns:
        {name of an input or output: {"scale", "zero_point"}} of those that are integers now.

    Raises:
        ValueError: one of them is computed in float.
    """
    import onnx

    parameters: dict[str, dict[str, float | int]] = {}
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for what, change, values in (
        ("input", _input, graph.proto.graph.input),
        ("output", _output, graph.proto.graph.output),
    ):
        for value in values:
            if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
                continue
            grid = change(graph, value.name, dtype)
            if grid is None:
                raise no_grid(what, value.name, dtype)
            value.type.tensor_type.elem_type = element
            parameters[value.name] = {"scale": float(grid[0].item()), "zero_point": int(grid[1].item())}
    return parameters


def _input(graph: Graph, name: str, dtype: str) -> tuple[np.ndarray, np.ndarray] | None:
    readers = graph.readers(name)
    first = next((node for node in readers if node.op_type == "QuantizeLinear"), None)
    if first is None or graph.is_output(name):
        return None
    scale, zero = (graph.constants.get(part) for part in first.input[1:3])
    if scale is None or zero is None or zero.dtype != np.uint8:
        return None
    same = list(first.input[1:])
    shifted = _shifted(graph, name, zero, dtype, same[1])
    floats = graph.add("DequantizeLinear", [name, same[0], shifted], graph.fresh(f"{name}/dequantized"))
    for node in readers:
        if dtype == "uint8" and node.op_type == "QuantizeLinear" and list(node.input[1:]) == same:
            graph.remove(node)
            graph.replace(node.output[0], name)
            continue
        for index, read in enumerate(node.input):
            if read == name:
                graph.set_input(node, index, floats)
    return scale, graph.constants[shifted]


def _output(graph: Graph, name: str, dtype: str) -> tuple[np.ndarray, np.ndarray] | None:
    node = last = graph.producer(name)
    while last is not None and last.op_type == "Identity":  # an input that is returned as it is
        last = graph.producer(last.input[0])
    known = None if last is None else quantized_as(graph, last.output[0])
    if last is None or known is None or known[1].dtype not in (np.uint8, np.dtype(dtype)):
        return None
    integers, *parameters = last.input
    readers = graph.readers(name)
    graph.remove(node)
    floats = graph.add("DequantizeLinear", [integers, *parameters], graph.fresh(f"{name}/dequantized"))
    shifted = parameters[1]
    if known[1].dtype == dtype:
        graph.add("Identity", [integers], name)
    else:
        shifted = _shifted(graph, name, known[1], dtype, parameters[1])
        graph.add("QuantizeLinear", [floats, parameters[0], shifted], name)
    for node in readers:
        for index, read in enumerate(node.input):
            if read == name:
                graph.set_input(node, index, floats)
    return known[0], graph.constants[shifted]


def _shifted(graph: Graph, name: str, zero: np.ndarray, dtype: str, given: str) -> str:
    if dtype == "uint8":
        return given
    return graph.constant(f"{name}/zero_point", np.asarray(int(zero.item()) - SHIFT, np.int8))
