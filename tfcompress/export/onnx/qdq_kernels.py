"""Integer weights and biases for convolutions and matrix products whose input and output are quantized."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.export.onnx.graph_editor import Graph, attributes
from tfcompress.export.onnx.simplify import is_quantized, quantized_as
from tfcompress.export.plan.planned_weights import PlannedWeights
from tfcompress.export.plan.scheme import LOWEST
from tfcompress.quantization.encoding import Affine


def integer_kernels(graph: Graph, weights: PlannedWeights) -> None:
    """Store as int8 the planned weights, and as int32 the biases, of what runs in integers.

    Args:
        graph: quantized activations are pairs of QuantizeLinear and DequantizeLinear.
        weights: those that are integers.
    """
    kernels = KernelWeights(graph, weights)
    for node in graph.of_type("MatMul"):
        _join_bias(graph, node, kernels)
    for node in graph.of_type("Conv", "Gemm", "MatMul"):
        source = quantized_as(graph, node.input[0])
        if source is None or source[1].dtype.itemsize != 1 or not is_quantized(graph, node.output[0]):
            continue
        found = kernels.integers(node)
        if found is None:
            continue
        name = node.input[2] if len(node.input) > 2 else ""
        bias = graph.constants.get(name)
        if name and bias is None:
            continue
        if bias is not None:
            axis = channel_axis(node, found.integers)
            found, units = weights.with_bias(found, bias, float(source[0].item()), axis)
            _store_bias(graph, node, units)
        graph.set_input(node, 1, dequantized(graph, node.input[1], found))


class KernelWeights:
    """The planned integers of the weights of a graph's products and convolutions, each looked for once.

    Args:
        graph: Of which weights aren't changed meanwhile.
        weights: Those that are integers.
    """

    def __init__(self, graph: Graph, weights: PlannedWeights):
        self._graph, self._weights = graph, weights
        self._found: dict[tuple[str, int], Affine | None] = {}

    def integers(self, node: Any) -> Affine | None:
        """Return the integers of a node's weight, if it is planned; scales differ by output channel alone."""
        weight = self._graph.constants.get(node.input[1])
        if weight is None or weight.ndim < 2:
            return None
        key = node.input[1], channel_axis(node, weight)
        if key not in self._found:
            self._found[key] = self._weights.find(weight, (key[1],))
        return self._found[key]


def channel_axis(node: Any, weight: np.ndarray) -> int:
    """Return the axis of a node's weight that counts the output channels."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attributes(node).get("transB")):
        return 0
    return weight.ndim - 1


def dequantized(graph: Graph, name: str, integers: Affine) -> str:
    """Store integers in place of a constant, a DequantizeLinear behind them; return its output.

    A constant that several nodes read in the same way is stored once.
    """
    axis = integers.axis[0] if integers.axis else None
    scale = integers.scale.reshape(() if axis is None else -1)
    parts = [
        _shared(graph, f"{name}/int8", np.ascontiguousarray(integers.integers)),
        _shared(graph, f"{name}/scale", scale),
        _shared(graph, f"{name}/zero_point", np.zeros(scale.shape, np.int8)),
    ]
    output = graph.fresh(f"{name}/dequantized")
    graph.shapes[output] = integers.shape
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
        while (behind := graph.only_reader(output, "Add", "Relu", "Clip")) is not None:
            output = behind.output[0]
        if not is_quantized(graph, output):
            continue
        lowest = graph.constant(f"{output}/lowest", np.asarray(LOWEST))
        readers = graph.readers(output)
        guarded = graph.add("Max", [output, lowest], graph.fresh(f"{output}/float"))
        for reader in readers:
            graph.set_input(reader, 0, guarded)


def _join_bias(graph: Graph, node: Any, kernels: KernelWeights) -> None:
    """Let a product and the addition of a vector that will run in integers be a Gemm, with its bias in 32 bits."""
    weight = graph.constants.get(node.input[1])
    known = quantized_as(graph, node.input[0])
    if weight is None or weight.ndim != 2 or graph.rank(node.input[0]) != 2 or known is None:
        return
    if known[1].dtype.itemsize != 1 or kernels.integers(node) is None:
        return
    add = graph.only_reader(node.output[0], "Add")
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


def _store_bias(graph: Graph, node: Any, units: Affine) -> None:
    scale = units.scale.reshape(() if units.scale.size == 1 else -1)
    name = node.input[2]
    parts = [
        graph.constant(f"{name}/int32", units.integers.astype(np.int32)),
        graph.constant(f"{name}/scale", scale),
        graph.constant(f"{name}/zero_point", np.zeros(scale.shape, np.int32)),
    ]
    output = graph.fresh(f"{name}/dequantized")
    graph.shapes[output] = units.shape
    graph.set_input(node, 2, graph.add("DequantizeLinear", parts, output, **({"axis": 0} if scale.ndim else {})))
