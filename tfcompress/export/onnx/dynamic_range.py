"""Products in integers whose input gets its range at run time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcompress.export.onnx.graph_editor import Graph, attributes
from tfcompress.export.onnx.qdq_kernels import KernelWeights
from tfcompress.export.plan.planned_weights import PlannedWeights
from tfcompress.quantization.encoding import Affine


def dynamic(proto: Any, weights: PlannedWeights, detached: Mapping[str, bytes] | None = None) -> None:
    """Let products by planned matrices run in integers: DynamicQuantizeLinear, MatMulInteger, Mul.

    ONNX Runtime makes one kernel of these and the bias behind them, DynamicQuantizeMatMul. Convolutions stay
    float: their integer kernel for such inputs is slower than float.

    Args:
        proto: an `onnx.ModelProto`, changed in place.
        weights: those that are integers.
        detached: the values of constants that it lacks, by name.
    """
    import onnx

    graph = Graph(proto, detached)
    kernels = KernelWeights(graph, weights)
    quantized: dict[str, tuple[str, str, str]] = {}
    for node in graph.of_type("MatMul", "Gemm"):
        found = kernels.integers(node)
        if found is None or found.integers.ndim != 2 or not is_product(node):
            continue
        source, name, output = node.input[0], node.input[1], node.output[0]
        if source not in quantized:
            quantized[source] = _quantize(graph, source)
        integers, scale, zero = quantized[source]
        graph.remove(node)
        weight = _stored(graph, f"{name}/int8", np.ascontiguousarray(found.integers))
        bias = node.input[2] if len(node.input) > 2 else ""
        product = graph.fresh(f"{output}/product") if bias else output
        total = graph.fresh(f"{output}/int32")
        graph.add("MatMulInteger", [integers, weight, zero], total)
        floats = graph.add("Cast", [total], graph.fresh(f"{output}/float"), to=onnx.TensorProto.FLOAT)
        steps = graph.add("Mul", [scale, _scale(graph, name, found)], graph.fresh(f"{output}/scale"))
        graph.add("Mul", [floats, steps], product)
        if bias:
            graph.add("Add", [product, bias], output)
    graph.finish()


def is_product(node: Any) -> bool:
    """Return whether a node multiplies its first two inputs as they are, and adds the third if there is one."""
    given = attributes(node)
    return not (given.get("transA") or given.get("transB")) and given.get("alpha", 1) == given.get("beta", 1) == 1


def _quantize(graph: Graph, source: str) -> tuple[str, str, str]:
    import onnx

    names = [graph.fresh(f"{source}/{part}") for part in ("quantized", "scale", "zero_point")]
    graph.attach(onnx.helper.make_node("DynamicQuantizeLinear", [source], names, graph.fresh(f"{source}/quantize")))
    return names[0], names[1], names[2]


def _scale(graph: Graph, name: str, integers: Affine) -> str:
    scale = integers.scale.reshape(-1)
    return _stored(graph, f"{name}/scale", scale if integers.axis else scale.reshape(()))


def _stored(graph: Graph, name: str, value: np.ndarray) -> str:
    return name if name in graph.constants else graph.constant(name, value)
