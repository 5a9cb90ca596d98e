"""Integer weights and biases for convolutions and matrix products whose input and output are quantized."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.export.onnx.graph_editor import Graph, attributes
from tfcompress.export.onnx.grid_recovery import Integers, recover
from tfcompress.export.onnx.simplify import is_quantized, quantized_as
from tfcompress.export.scheme import LOWEST

LARGEST_BIAS = 2.0**30
"""Half of what an int32 accumulator holds; the other half is for the products."""


def integer_kernels(graph: Graph, bits: int, per_channel: bool) -> None:
    """Store as int8 the weights on the grid, and as int32 the biases, of what runs in integers.

    Args:
        graph: quantized activations are pairs of QuantizeLinear and DequantizeLinear.
        bits: of the weights' grid.
        per_channel: whether each output channel has a grid of its own.
    """
    for node in graph.of_type("MatMul"):
        _join_bias(graph, node, bits, per_channel)
    for node in graph.of_type("Conv", "Gemm", "MatMul"):
        found = weight_integers(graph, node, bits, per_channel)
        source = quantized_as(graph, node.input[0])
        if found is None or source is None or source[1].dtype.itemsize != 1:
            continue
        if not is_quantized(graph, node.output[0]):
            continue
        name = node.input[2] if len(node.input) > 2 else ""
        bias = graph.constants.get(name)
        if name and bias is None:
            continue
        if bias is not None:
            found = _room_for_bias(found, bias, float(source[0].item()))
            _store_bias(graph, node, bias, source[0], found)
        graph.set_input(node, 1, dequantized(graph, node.input[1], found))


def weight_integers(graph: Graph, node: Any, bits: int, per_channel: bool) -> Integers | None:
    """Return the integers of a node's constant weight, if it lies on a grid."""
    weight = graph.constants.get(node.input[1])
    if weight is None or weight.ndim < 2:
        return None
    found = recover(weight, (channel_axis(node, weight),), bits) if per_channel else None
    return found or recover(weight, (), bits)


def channel_axis(node: Any, weight: np.ndarray) -> int:
    """Return the axis of a node's weight that counts the output channels."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attributes(node).get("transB")):
        return 0
    return weight.ndim - 1


def dequantized(graph: Graph, name: str, integers: Integers) -> str:
    """Store integers in place of a constant, a DequantizeLinear behind them; return its output.

    A constant that several nodes read in the same way is stored once.
    """
    axis = integers.axis
    scale = integers.scale.reshape(() if axis is None else -1)
    parts = [
        _shared(graph, f"{name}/int8", integers.values),
        _shared(graph, f"{name}/scale", scale),
        _shared(graph, f"{name}/zero_point", np.zeros(scale.shape, np.int8)),
    ]
    output = graph.fresh(f"{name}/dequantized")
    graph.shapes[output] = integers.values.shape
    return graph.add("DequantizeLinear", parts, output, **({} if axis is None else {"axis": axis}))


def guard_float_kernels(graph: Graph) -> None:
    """Keep ONNX Runtime from quantizing by itself the weights of what is to stay float.

    It does (silently, with scales of its own) with a convolution, a Gemm or what it makes a Gemm of between
    quantized tensors. A maximum with the lowest number changes nothing, and is in its way.
    """
    for node in graph.of_type("Conv", "ConvTranspose", "Gemm", "MatMul"):
        if node.input[1] not in graph.constants or quantized_as(graph, node.input[0]) is None:
            continue
        output = node.output[0]
        while (behind := graph.only_consumer(output, "Add", "Relu", "Clip")) is not None:
            output = behind.output[0]
        if not is_quantized(graph, output):
            continue
        lowest = graph.constant(f"{output}/lowest", np.asarray(LOWEST))
        readers = graph.consumers(output)
        guarded = graph.add("Max", [output, lowest], graph.fresh(f"{output}/float"))
        for reader in readers:
            graph.set_input(reader, 0, guarded)


def _join_bias(graph: Graph, node: Any, bits: int, per_channel: bool) -> None:
    """Let a product and the addition of a vector that will run in integers be a Gemm, with its bias in 32 bits."""
    weight = graph.constants.get(node.input[1])
    known = quantized_as(graph, node.input[0])
    if weight is None or weight.ndim != 2 or graph.rank(node.input[0]) != 2 or known is None:
        return
    if known[1].dtype.itemsize != 1 or weight_integers(graph, node, bits, per_channel) is None:
        return
    add = graph.only_consumer(node.output[0], "Add")
    result = add.output[0] if add is not None else node.output[0]
    bias = _vector(graph, add, node.output[0], weight.shape[1]) if add is not None else None
    if not is_quantized(graph, result) or (add is not None and bias is None):
        return
    inputs = list(node.input)
    graph.remove(node)
    if add is not None and bias is not None:
        graph.remove(add)
        inputs.append(graph.constant(f"{result}/bias", bias))
    graph.add("Gemm", inputs, result)


def _vector(graph: Graph, add: Any, product: str, size: int) -> np.ndarray | None:
    other = next((name for name in add.input if name != product), None)
    value = graph.constants.get(other) if other else None
    if value is None or value.size != size or value.shape[-1:] != (size,):
        return None
    return value.reshape(size)


def _shared(graph: Graph, name: str, value: np.ndarray) -> str:
    there = graph.constants.get(name)
    if there is not None and there.dtype == value.dtype and np.array_equal(there, value):
        return name
    return graph.constant(name, value)


def _room_for_bias(integers: Integers, bias: np.ndarray, input_scale: float) -> Integers:
    """Coarsen the grid of channels whose bias doesn't fit 32 bits in units of input scale * weight scale.

    Their weights are tiny beside the bias, or zero: what is lost is less than 2**-22 of the bias per product.
    """
    least = np.abs(bias).reshape(-1) / (np.float64(input_scale) * LARGEST_BIAS)
    least = least.reshape(integers.scale.shape) if integers.axis is not None else least.max(keepdims=True)
    least = least.reshape(integers.scale.shape)
    others = tuple(axis for axis, size in enumerate(integers.scale.shape) if size == 1)
    empty = ~integers.values.any(axis=others, keepdims=True)
    # With no weights any scale will do: one that holds the bias to 20 bits.
    scale = np.where(empty & (least > 0), least * 2**10, np.maximum(integers.scale, least)).astype(np.float32)
    if (scale == integers.scale).all():
        return integers
    values = np.rint(integers.values * (integers.scale.astype(np.float64) / scale))
    return Integers(values.astype(np.int8), scale)


def _store_bias(graph: Graph, node: Any, bias: np.ndarray, input_scale: np.ndarray, integers: Integers) -> None:
    shape = () if integers.axis is None else (-1,)
    scale = (np.float32(input_scale.item()) * integers.scale.reshape(shape)).astype(np.float32)
    values = np.rint(bias.reshape(-1).astype(np.float64) / scale)
    name = node.input[2]
    parts = [
        graph.constant(f"{name}/int32", values.astype(np.int32)),
        graph.constant(f"{name}/scale", scale),
        graph.constant(f"{name}/zero_point", np.zeros(scale.shape, np.int32)),
    ]
    output = graph.fresh(f"{name}/dequantized")
    graph.shapes[output] = bias.shape
    axis = {} if integers.axis is None else {"axis": 0}
    graph.set_input(node, 2, graph.add("DequantizeLinear", parts, output, **axis))
