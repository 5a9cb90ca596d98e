"""Weights stored in 16 bits, computed with in 32."""

from typing import Any

import numpy as np

from tfcompress.export.onnx.node_index import inner_graphs
from tfcompress.quantization.numerics.float16_range import check_half

SMALLEST_HALF = 64
"""Elements from which half the bytes pay for the Cast node."""


def store_in_half(graph: Any) -> None:
    """Store the float32 initializers of an ONNX graph, subgraphs too, as float16 with a Cast behind each.

    The Casts are folded when the file is loaded: it runs as fast as the float32 file. (Computing in float16
    is slower on every CPU measured.)

    Args:
        graph: an `onnx.GraphProto`, changed in place.

    Raises:
        ValueError: a finite value lies beyond 65504.
    """
    import onnx

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST_HALF:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        check_half([(tensor.name, values)])
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}/float16"))
        casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], f"{name}/cast", to=onnx.TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    for node in graph.node:
        for inner in inner_graphs(node):
            store_in_half(inner)
