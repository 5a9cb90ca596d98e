"""ONNX models without the values of their large constants, which every step would copy."""

from __future__ import annotations

import math
from typing import Any

from tfcompress.runtime.external_data import tensors

LARGE = 1 << 12
"""Number of values from which on a constant can't be a shape, nor anything else that a check looks into."""


def without_large_constants(proto: Any) -> Any:
    """Return a copy of an ONNX model whose large constants are inputs: for checks, and to infer shapes.

    Args:
        proto: An `onnx.ModelProto`; it isn't changed.
    """
    import onnx

    graph = proto.graph
    made = onnx.ModelProto(ir_version=proto.ir_version, producer_name=proto.producer_name)
    made.opset_import.extend(proto.opset_import)
    made.functions.extend(proto.functions)
    made.metadata_props.extend(proto.metadata_props)
    made.graph.name = graph.name
    for field in ("node", "sparse_initializer", "value_info", "output", "input"):
        getattr(made.graph, field).extend(getattr(graph, field))
    given = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if math.prod(tensor.dims) < LARGE:
            made.graph.initializer.append(tensor)
        elif tensor.name not in given:
            made.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    return made


def to_opset(proto: Any, opset: int) -> None:
    """Let a model be one of another opset, in place; ONNX' converter writes all that it gets, and 2 GB at most.

    Args:
        proto: An `onnx.ModelProto`.
        opset: Of the ONNX standard.
    """
    import onnx

    made = onnx.version_converter.convert_version(without_large_constants(proto), opset)
    graph = proto.graph
    large = {tensor.name for tensor in graph.initializer if math.prod(tensor.dims) >= LARGE}
    for place in reversed([i for i, tensor in enumerate(graph.initializer) if tensor.name not in large]):
        del graph.initializer[place]
    graph.initializer.extend(made.graph.initializer)
    del graph.node[:], graph.value_info[:], proto.opset_import[:]
    graph.node.extend(made.graph.node)
    proto.opset_import.extend(made.opset_import)
    proto.ir_version = made.ir_version


def detach(graph: Any) -> dict[str, bytes]:
    """Take the values out of the large constants of a graph of tf2onnx, which copies them three times to make a model.

    Args:
        graph: Of tf2onnx, changed in place.

    Returns:
        {name of a constant: its values}, for `fill`.
    """
    detached: dict[str, bytes] = {}
    for name in [node.name for node in graph.get_nodes() if node.is_const()]:
        node = graph.get_node_by_name(name)
        tensor = node.get_attr("value").t
        if math.prod(tensor.dims) < LARGE or not tensor.HasField("raw_data"):
            continue
        (output,) = node.output
        dtype, shape = graph.get_dtype(output), graph.get_shape(output)
        data_type, dims = tensor.data_type, list(tensor.dims)
        detached[output] = tensor.raw_data
        del tensor, node  # the old constant is freed before the next is read
        graph.remove_node(name)
        add_empty(graph, name, output, data_type=data_type, dims=dims, dtype=dtype, shape=shape)
    return detached


def add_empty(graph: Any, name: str, output: str, *, data_type: int, dims: Any, dtype: int, shape: Any) -> Any:
    """Add a constant without values to a graph of tf2onnx; return its `onnx.TensorProto`.

    Args:
        graph: Of tf2onnx.
        name: Of the node.
        output: Its output.
        data_type: Of the values.
        dims: Of the values.
        dtype: That the graph knows of the output.
        shape: That the graph knows of the output.
    """
    import onnx

    empty = onnx.TensorProto(data_type=data_type, dims=dims, name=output)
    node = graph.make_node(
        "Const", [], {"value": empty}, outputs=[output], name=name, shapes=[shape], dtypes=[dtype],
        skip_conversion=True, infer_shape_dtype=False,
    )  # fmt: skip
    return node.get_attr("value").t


def fill(proto: Any, detached: dict[str, bytes]) -> None:
    """Give the constants of a model the values that `detach` took out of them.

    Args:
        proto: An `onnx.ModelProto`, changed in place.
        detached: What `detach` returned; emptied.
    """
    for tensor in proto.graph.initializer:
        if tensor.name in detached:
            tensor.raw_data = detached.pop(tensor.name)


def constant_bytes(graph: Any) -> int:
    """Return how many bytes the values of the constants of an `onnx.GraphProto` take, those of inner graphs too."""
    import onnx

    def size(tensor: Any) -> int:
        return onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * math.prod(tensor.dims)

    return sum(map(size, tensors(graph)))
