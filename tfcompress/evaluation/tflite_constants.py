"""The weights inside a `.tflite` file: their stored numbers, and the real ones that these stand for."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfcompress.evaluation.file_weight import FileWeight
from tfcompress.evaluation.tensor_grid import TensorGrid
from tfcompress.export.tflite.operator_arithmetic import signature_outputs
from tfcompress.export.tflite.sparse_encoding import densify
from tfcompress.export.tflite.weights.packed_integers import unpack

DTYPES = {
    "FLOAT64": np.float64,
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "BFLOAT16": np.uint16,
    "INT64": np.int64,
    "INT32": np.int32,
    "INT16": np.int16,
    "UINT16": np.uint16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT4": np.int8,
    "UINT4": np.uint8,
    "INT2": np.int8,
}
PACKED_BITS = {"INT4": 4, "UINT4": 4, "INT2": 2}
UNPACKING = ("DEQUANTIZE", "DENSIFY")
"""Operators that give a constant in another form."""


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """A constant that is a weight.

    Attributes:
        graph: the place of the graph in which it is.
        tensor: its place among the tensors of the graph.
        name: its own.
        kind: the schema's name of its dtype.
        values: stored numbers, of its shape; what a sparse one leaves out is 0.
        left_out: how many numbers aren't stored.
        nbytes: that it takes, with its scales and zero points.
        scale: that broadcasts with `values`, or of a matrix has one for each block of a row; None: they are no scaled
            integers.
        zero_point: likewise; 0 without scale.
    """

    graph: int
    tensor: int
    name: str
    kind: str
    values: np.ndarray
    left_out: int
    nbytes: int
    scale: np.ndarray | None
    zero_point: np.ndarray

    @property
    def nonzeros(self) -> int:
        """How many numbers stand for another one than 0."""
        return int(np.count_nonzero(self.values != self.zero_point))

    @property
    def real(self) -> np.ndarray:
        """What the stored numbers stand for, float32."""
        if self.scale is None:
            return self.values.astype(np.float32)
        scale = self.scale
        if scale.ndim == 2 and 1 < scale.shape[1] < self.values.shape[1]:
            scale = np.repeat(scale, self.values.shape[1] // scale.shape[1], axis=1)
        return ((self.values.astype(np.int32) - self.zero_point.astype(np.int32)) * scale).astype(np.float32)

    @property
    def grid(self) -> TensorGrid | None:
        """The numbers that it can hold, of as many bits as its integers take."""
        return None if self.scale is None else TensorGrid.of_integers(self.values, self.scale, self.zero_point)


def opened(path: str | os.PathLike[str]) -> tuple[np.ndarray, Any, Any]:
    """Return the bytes of a file, its model, and the module of the schema.

    Raises:
        ValueError: it isn't a .tflite file.
    """
    from ai_edge_litert import schema_py_generated as schema

    data = np.fromfile(path, np.uint8)
    if bytes(data[4:8]) != b"TFL3":
        raise ValueError(f"Expected a TFLite file. Received: {os.fspath(path)!r}, which has no TFL3 mark at its start.")
    return data, schema.Model.GetRootAs(data, 0), schema


def constants(path: str | os.PathLike[str]) -> Iterator[Constant]:
    """Yield the weights of a file, each once however often it is used.

    A weight is a constant tensor of a float type or of 2 to 16 bits. int32 and int64 constants count where they carry a
    quantization scale (the biases of integer layers); without one they are shapes, axes and indices.
    """
    data, model, schema = opened(path)
    types = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    seen = set()
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        in_blocks = _in_blocks(graph, schema)
        for place in range(graph.TensorsLength()):
            tensor = graph.Tensors(place)
            raw = bytes_of(data, model.Buffers(tensor.Buffer()))
            quantization, kind = tensor.Quantization(), types[tensor.Type()]
            scaled = quantization is not None and quantization.ScaleLength() > 0
            whole = kind in ("INT32", "INT64") and not scaled
            if tensor.Buffer() in seen or not raw.size or kind not in DTYPES or whole or place in in_blocks.values():
                continue
            seen.add(tensor.Buffer())
            shape = tuple(int(size) for size in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
            values, size = unpacked(raw, kind), math.prod(shape)
            stored = size if tensor.Sparsity() is None else values.size
            if tensor.Sparsity() is None:
                values = values[:size].reshape(shape)
            else:
                values = densify(values, schema.SparsityParametersT.InitFromObj(tensor.Sparsity()), shape)
            numbers: Any = _spread(quantization, values) if scaled else (None, np.zeros((), np.int64))
            if place in in_blocks:
                scales = graph.Tensors(in_blocks[place])
                of_blocks = bytes_of(data, model.Buffers(scales.Buffer())).view(np.float16)
                numbers = of_blocks.reshape(scales.ShapeAsNumpy()).astype(np.float32), np.zeros((), np.int64)
            name = (tensor.Name() or b"").decode()
            nbytes = raw.size + (4 * quantization.ScaleLength() + 8 * quantization.ZeroPointLength() if scaled else 0)
            nbytes += of_blocks.nbytes if place in in_blocks else 0
            yield Constant(number, place, name, kind, values, size - stored, nbytes, *numbers)


def _in_blocks(graph: Any, schema: Any) -> dict[int, int]:
    """Return {tensor: the one that has its scales}, of those with a scale for each block."""
    found = {}
    for place, tensor in enumerate(map(graph.Tensors, range(graph.TensorsLength()))):
        grid = tensor.Quantization()
        if grid is not None and grid.DetailsType() == schema.QuantizationDetails.BlockwiseQuantization:
            details = schema.BlockwiseQuantization()
            details.Init(grid.Details().Bytes, grid.Details().Pos)
            found[place] = int(details.Scales())
    return found


def weights(path: str | os.PathLike[str]) -> Iterator[FileWeight]:
    """Yield the weights of two or more dimensions, with the names of what reads them."""
    _, model, schema = opened(path)
    kinds = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    outputs = signature_outputs(model)
    readers: dict[int, dict[int, list[str]]] = {}
    for constant in constants(path):
        if constant.values.ndim < 2 or constant.kind in ("INT32", "INT64"):
            continue
        if constant.graph not in readers:
            graph = model.Subgraphs(constant.graph)
            readers[constant.graph] = _readers(model, graph, kinds, {} if constant.graph else outputs)
        names = (*readers[constant.graph].get(constant.tensor, ()), constant.name)
        dtype = constant.kind.lower()
        yield FileWeight(names, constant.real, dtype, constant.nbytes, constant.grid)


def _readers(model: Any, graph: Any, kinds: dict[int, str], outputs: dict[int, str]) -> dict[int, list[str]]:
    """Return {tensor: the names of what is computed from it}; what only gives it in another form doesn't count."""
    found: dict[int, list[str]] = {}
    origin: dict[int, int] = {}
    for operator in map(graph.Operators, range(graph.OperatorsLength())):
        given = [int(x) for x in operator.InputsAsNumpy()] if operator.InputsLength() else []
        made = [int(x) for x in operator.OutputsAsNumpy()] if operator.OutputsLength() else []
        code = model.OperatorCodes(operator.OpcodeIndex())
        if kinds.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode())) in UNPACKING:
            origin[made[0]] = origin.get(given[0], given[0])
            continue
        names = [outputs.get(x) or (graph.Tensors(x).Name() or b"").decode() for x in made]
        for x in given:
            found.setdefault(origin.get(x, x), []).extend(names)
    return found


def bytes_of(data: np.ndarray, buffer: Any) -> np.ndarray:
    """Return the bytes of a buffer of a file."""
    if buffer.DataLength():
        return buffer.DataAsNumpy()
    # Files over 2 GB keep the bytes behind the flatbuffer; offsets 0 and 1 mean "none".
    return data[buffer.Offset() : buffer.Offset() + buffer.Size()] if buffer.Offset() > 1 else data[:0]


def unpacked(raw: np.ndarray, kind: str) -> np.ndarray:
    """Return the stored numbers, flat."""
    if kind in PACKED_BITS:
        return unpack(raw, PACKED_BITS[kind], signed=not kind.startswith("U"))
    values = raw.view(DTYPES[kind])
    return (values.astype(np.uint32) << 16).view(np.float32) if kind == "BFLOAT16" else values


def _spread(quantization: Any, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scales and the zero points of a tensor's integers, so that they broadcast with these."""
    points = np.asarray(quantization.ZeroPointAsNumpy() if quantization.ZeroPointLength() else [0], np.int64)
    one = [1] * values.ndim
    channels = list(one)
    if values.ndim:
        channels[quantization.QuantizedDimension() if values.ndim > 1 else 0] = -1
    scale = quantization.ScaleAsNumpy()
    return scale.reshape(channels if scale.size > 1 else one), points.reshape(channels if points.size > 1 else one)
