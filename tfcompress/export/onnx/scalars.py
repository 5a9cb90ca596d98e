"""Constants added to, or multiplied with, quantized tensors."""

from __future__ import annotations

import numpy as np

from tfcompress.export.onnx.graph_editor import Graph
from tfcompress.export.onnx.simplify import quantized_as


def quantize_scalars(graph: Graph) -> None:
    """Give a single number beside a quantized tensor integers too: itself is the scale, so nothing is lost."""
    for node in graph.of_type("Add", "Mul"):
        for place, name in enumerate(node.input):
            value = graph.constants.get(name)
            other = quantized_as(graph, node.input[1 - place])
            if value is None or value.size != 1 or value.dtype != np.float32 or other is None:
                continue
            if other[1].dtype.itemsize != 1 or not np.isfinite(value).all():
                continue
            number = float(value.item())
            scale = np.float32(abs(number) or 1.0)
            one, zero = (0, 1) if number < 0 else (int(number > 0), 0)
            dtype = other[1].dtype
            parts = [
                graph.constant(f"{name}/integer", np.full(value.shape, one, dtype)),
                graph.constant(f"{name}/scale", np.asarray(scale)),
                graph.constant(f"{name}/zero_point", np.asarray(zero, dtype)),
            ]
            graph.set_input(node, place, graph.add("DequantizeLinear", parts, graph.fresh(f"{name}/dequantized")))
