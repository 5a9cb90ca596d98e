"""The constants inside a `.tflite` or `.onnx` file: which are weights, how many, and how many aren't zero."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfcompress.evaluation import tflite_constants
from tfcompress.export.onnx.node_index import index_of, inner_graphs
from tfcompress.export.onnx.weights.folding import folded
from tfcompress.export.onnx.weights.matmul_nbits import PackedMatrix, is_symmetric
from tfcompress.graph.index import TensorIndex
from tfcompress.runtime.external_data import read


@dataclasses.dataclass(frozen=True)
class Count:
    """How many parameters there are, how many of them are not zero, and how many zeros a file doesn't store."""

    parameters: int
    nonzeros: int
    left_out: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.parameters + other.parameters, self.nonzeros + other.nonzeros, self.left_out + other.left_out)


def count_tflite(path: str | os.PathLike[str]) -> Count:
    """Count the weights of a `.tflite` file.

    A weight is a constant tensor of a float type or of 2 to 16 bits, stored once however often it is used; a
    float16 weight that the graph widens is one weight. int32 and int64 constants count where they carry a
    quantization scale (the biases of integer layers); without one they are shapes, axes and indices. An
    integer is zero where it equals its zero point. What a sparse tensor doesn't store is zero.

    Args:
        path: the file.

    Returns:
        `Count`.

    Raises:
        ValueError: it isn't a .tflite file.
    """
    total = Count(0, 0)
    for constant in tflite_constants.constants(path):
        total += Count(constant.values.size, constant.nonzeros, constant.left_out)
    return total


def count_onnx(path: str | os.PathLike[str]) -> Count:
    """Count the weights of a `.onnx` file.

    A weight is an initializer or Constant of a float type or of 4 to 16 bits. The scales and zero points of
    quantized operators are none, nor are the scales that integers are multiplied with. int32 counts where it is
    dequantized or is the bias of an integer operator; other int32 and int64 constants are shapes, axes and
    indices. A quantized weight is zero where it equals its zero point. Weights that are unpacked when the file is
    loaded count as they are then.

    Args:
        path: the file.

    Returns:
        `Count`.

    Raises:
        FileNotFoundError: it isn't there, or the file beside it that holds its weights.
        ValueError: it isn't an .onnx file.
    """
    total = Count(0, 0)
    for graph in graphs(folded(open_onnx(path), pathlib.Path(path)).graph):
        total += _count_graph(graph)
    return total


def bytes_by_dtype(path: str | os.PathLike[str]) -> dict[str, int]:
    """Return how many bytes of a `.tflite` or `.onnx` file are constants of each dtype, whatever they are for.

    Args:
        path: the file.

    Returns:
        {dtype, as NumPy calls it where it has it: bytes}; a constant that several tensors share counts once.
    """
    total: dict[str, int] = {}
    if os.fspath(path).lower().endswith(".tflite"):
        data, model, schema = tflite_constants.opened(path)
        types = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
        seen = set()
        for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
            for tensor in map(graph.Tensors, range(graph.TensorsLength())):
                size = tflite_constants.bytes_of(data, model.Buffers(tensor.Buffer())).size
                if size and tensor.Buffer() not in seen:
                    seen.add(tensor.Buffer())
                    total[types[tensor.Type()]] = total.get(types[tensor.Type()], 0) + size
        return total
    for graph in graphs(open_onnx(path).graph):
        sparse = [part for one in graph.sparse_initializer for part in (one.values, one.indices)]
        attributes = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
        for tensor in (*graph.initializer, *sparse, *attributes):
            if tensor.data_type:
                dtype = dtype_of(tensor)
                total[dtype] = total.get(dtype, 0) + stored_bytes(tensor, dtype)
    return total


def dtype_of(tensor: Any) -> str:
    """Return the dtype of an ONNX tensor, as NumPy calls it where it has it."""
    from onnx import TensorProto

    name = TensorProto.DataType.Name(tensor.data_type).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def stored_bytes(tensor: Any, dtype: str) -> int:
    """Return how many bytes an ONNX tensor's numbers have; two of 4 bits share one, or four of 2."""
    from onnx import helper

    if dtype == "string":
        return sum(map(len, tensor.string_data))
    size = math.prod(tensor.dims)
    if dtype in ("int4", "uint4", "float4e2m1"):
        return (size + 1) // 2
    if dtype in ("int2", "uint2"):
        return (size + 3) // 4
    return size * np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize


def open_onnx(path: str | os.PathLike[str]) -> Any:
    """Return a file's model, with the values that are kept beside it.

    Raises:
        FileNotFoundError: they aren't there.
        ValueError: it isn't an .onnx file.
    """
    try:
        return read(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # protobuf raises its own
        raise ValueError(
            f"Expected an ONNX file. Received: {os.fspath(path)!r}, which can't be read: {error}"
        ) from error


def graphs(graph: Any) -> Iterator[Any]:
    """Yield an ONNX graph and all that are inside of its nodes."""
    yield graph
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from graphs(inner)


# For the integer operators: the input places that hold scales and zero points, the one of an int32 bias, and
# for each quantized input the place of its zero point.
QUANTIZED: dict[str, tuple[set[int], set[int], dict[int, int]]] = {
    "QuantizeLinear": ({1, 2}, set(), {}),
    "DequantizeLinear": ({1, 2}, {0}, {0: 2}),
    "QLinearConv": ({1, 2, 4, 5, 6, 7}, {8}, {0: 2, 3: 5}),
    "QLinearMatMul": ({1, 2, 4, 5, 6, 7}, set(), {0: 2, 3: 5}),
    "QGemm": ({1, 2, 4, 5, 7, 8}, {6}, {0: 2, 3: 5}),
    "ConvInteger": ({2, 3}, set(), {0: 2, 1: 3}),
    "MatMulInteger": ({2, 3}, set(), {0: 2, 1: 3}),
    "DynamicQuantizeMatMul": ({2, 3}, set(), {1: 3}),
    "MatMulNBits": ({2, 3}, set(), {}),
}


_SAME_VALUES = ("Cast", "Identity", "Reshape", "Transpose")


def _count_graph(graph: Any) -> Count:
    from onnx import TensorProto, numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    index = index_of(graph)
    for node in graph.node:
        if node.op_type == "Constant":
            tensors[node.output[0]] = next((a.t for a in node.attribute if a.name == "value"), None)
    helpers, biases, zero_points = set(), set(), {}
    packed: dict[str, Any] = {}
    for node in graph.node:
        places, bias_places, pairs = QUANTIZED.get(node.op_type, (set(), set(), {}))
        names = {place: origin(name, index) for place, name in enumerate(node.input)}
        helpers |= {names[place] for place in places if place in names}
        biases |= {names[place] for place in bias_places if place in names}
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1 if node.op_type == "DequantizeLinear" else 0)
        zero_points.update({names[a]: (names[b], axis) for a, b in pairs.items() if a in names and names.get(b)})
        if is_symmetric(node) and tensors.get(names.get(1, "")) is not None:
            packed[names[1]] = node
    helpers |= _multiplied_scales(graph, tensors, index)
    wide = {TensorProto.INT32, TensorProto.INT64, TensorProto.UINT32, TensorProto.UINT64}
    other = {TensorProto.STRING, TensorProto.BOOL, TensorProto.UNDEFINED}
    total = Count(0, 0)
    for name, tensor in tensors.items():
        if (
            tensor is None
            or name in helpers
            or tensor.data_type in other
            or (tensor.data_type in wide and name not in biases)
        ):
            continue
        values = numpy_helper.to_array(tensor)
        if name in packed:
            values = PackedMatrix.read(packed[name], values).integers
        if values.dtype.kind not in "iuf":
            values = values.astype(np.float32)  # int4, bfloat16 and the like, from ml_dtypes
        point, axis = zero_points.get(name, ("", 0))
        zero = numpy_helper.to_array(tensors[point]).astype(np.float32) if point in tensors else np.zeros(())
        if zero.size > 1:
            zero = zero.reshape([-1 if i == axis % values.ndim else 1 for i in range(values.ndim)])
        total += Count(values.size, int(np.count_nonzero(values != zero.reshape(zero.shape if zero.size > 1 else ()))))
    for sparse in graph.sparse_initializer:
        stored = numpy_helper.to_array(sparse.values)
        size = math.prod(sparse.dims)
        total += Count(size, int(np.count_nonzero(stored)), size - stored.size)
    return total


def _multiplied_scales(graph: Any, tensors: dict[str, Any], index: TensorIndex[Any, str]) -> set[str]:
    """Return the constants that only scale integers: of a stored weight, or of a product of integers."""
    from onnx import TensorProto

    narrow = {TensorProto.INT4, TensorProto.UINT4, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16}
    whole = {name for name, tensor in tensors.items() if tensor is not None and tensor.data_type in narrow}
    measured = {node.output[1] for node in graph.node if node.op_type == "DynamicQuantizeLinear"}
    scales = set()
    for node in graph.node:
        if node.op_type == "Mul":
            factors = [origin(name, index) for name in node.input]
            if any(name in whole or name in measured for name in factors):
                scales |= {name for name in factors if name in tensors and name not in whole}
    return scales


def origin(name: str, index: TensorIndex[Any, str]) -> str:
    """Return the tensor that another has the values of, in another form."""
    while (node := index.producer(name)) is not None and node.op_type in _SAME_VALUES:
        name = node.input[0]
    return name
