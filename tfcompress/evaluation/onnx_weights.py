"""The weights inside an `.onnx` file, as the real numbers that its operators read."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfcompress.evaluation.file_constants import QUANTIZED, dtype_of, open_onnx, stored_bytes
from tfcompress.evaluation.file_weight import FileWeight
from tfcompress.evaluation.tensor_grid import TensorGrid
from tfcompress.export.onnx.node_index import index_of, inner_graphs
from tfcompress.export.onnx.weights.folding import UNPACKING, computed_of_constants, needed_for, run_constants
from tfcompress.export.onnx.weights.matmul_nbits import KIND as MATMUL_NBITS
from tfcompress.export.onnx.weights.matmul_nbits import PackedMatrix, is_symmetric
from tfcompress.graph.index import TensorIndex
from tfcompress.runtime.onnx_functions import inlined

LAYING = ("Expand", "Pad", "Reshape", "Resize", "Slice", "Tile")
"""Operators whose constants say how their input is to be laid."""

CONVOLUTIONS = ("ConvInteger", "QLinearConv")
"""Operators whose weights have their channels along the first axis."""

GATES = {"LSTM": (0, 2, 3, 1), "GRU": (0, 1, 2), "RNN": (0,)}
"""Where recurrent operators have each of the gates of Keras' kernels, for each direction and before all else."""

CODED = "coded"
"""What a weight is stored as that the file decodes."""

INDICES = ("bool", "int32", "int64", "string", "uint32", "uint64")
"""What constants that no weights are have as their dtype."""


def weights(path: str | os.PathLike[str]) -> Iterator[FileWeight]:
    """Yield the constants of two or more dimensions that the operators of a file compute with.

    A weight that is computed of constants alone is what comes out: it is stored packed.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: it isn't there, or the file beside it that holds its weights.
        ValueError: it isn't an .onnx file.
    """
    proto = inlined(open_onnx(path))
    yield from _Reader(proto, pathlib.Path(path), proto.graph, {}, []).weights()


class _Reader:
    """One graph, with what is constant around it.

    Attributes:
        constants: {name: `TensorProto`}.
        computed: the nodes that depend on constants alone.
    """

    def __init__(self, proto: Any, path: pathlib.Path, graph: Any, constants: dict[str, Any], computed: list[Any]):
        self.proto, self.path, self.graph = proto, path, graph
        self.index: TensorIndex[Any, str] = index_of(graph)
        self.constants = {**constants, **{tensor.name: tensor for tensor in graph.initializer}}
        known = {*constants, *(name for node in computed for name in node.output)}
        own = computed_of_constants(graph, known)
        self.computed = [*computed, *own]
        self.names = {*self.constants, *(name for node in self.computed for name in node.output)}
        others = {id(node) for node in own}
        self.reading: dict[str, list[tuple[Any, int]]] = {}
        """What isn't constant and reads a constant, and at which of its inputs."""
        for node in (node for node in graph.node if id(node) not in others):
            for place, name in enumerate(node.input):
                if name in self.names:
                    self.reading.setdefault(name, []).append((node, place))

    def weights(self) -> Iterator[FileWeight]:
        for name, readers in self.reading.items():
            found = [(node, place) for node, place in readers if self._computes(node, place)]
            weight = self._weight(name, *found[0], [node for node, _ in found]) if found else None
            if weight is not None:
                yield from _directions(weight, found[0][0].op_type)
        for node in self.graph.node:
            for inner in inner_graphs(node):
                yield from _Reader(self.proto, self.path, inner, self.constants, self.computed).weights()

    @staticmethod
    def _computes(node: Any, place: int) -> bool:
        """Return whether an operator computes with an input, and it is no scale, zero point or shape, nor a bias."""
        if node.op_type in GATES:
            return place in (1, 2)
        return node.op_type not in LAYING and place not in QUANTIZED.get(node.op_type, ((),))[0]

    def _weight(self, name: str, node: Any, place: int, readers: list[Any]) -> FileWeight | None:
        nodes, stored = self._origins(name)
        largest = max(stored, key=lambda tensor: int(np.prod(tensor.dims)), default=None)
        if largest is None or not largest.data_type:
            return None
        if name in self.constants and (len(largest.dims) < 2 or dtype_of(largest) in INDICES):
            return None
        values = self._value(name)
        if node.op_type == MATMUL_NBITS:
            return self._packed(name, node, values) if place == 1 and is_symmetric(node) else None
        if values.ndim < 2 or values.dtype.name in INDICES:
            return None
        grid, dtype = self._grid(nodes), self._dtype(nodes, largest)
        if values.dtype.kind in "iu":
            scale, zero = self._scale(node, place)
            if scale is None:
                return None
            axis = 0 if node.op_type in CONVOLUTIONS else -1
            scale, zero = (_at_axis(part.reshape(-1), values.ndim, axis) for part in (scale, zero))
            grid = TensorGrid.of_integers(values, scale, zero)
            values = (values.astype(np.float32) - zero) * scale
        said = [text for each in readers for text in (each.name, *each.output) if text]
        nbytes = sum(stored_bytes(tensor, dtype_of(tensor)) for tensor in stored)
        return FileWeight((*said, name), values.astype(np.float32), dtype, nbytes, grid)

    def _packed(self, name: str, node: Any, data: np.ndarray) -> FileWeight:
        """Return the weight of a MatMulNBits without zero points."""
        matrix = PackedMatrix.read(node, data, self._known(node.input[2]))
        integers, scale = matrix.integers, matrix.spread()
        nbytes = data.nbytes + matrix.scales.nbytes
        grid = TensorGrid.of_integers(integers, matrix.scales.T, np.zeros(1))
        said = (*(text for text in (node.name, *node.output) if text), name)
        return FileWeight(said, (integers * scale).astype(np.float32), f"int{matrix.bits}", nbytes, grid)

    def _origins(self, name: str) -> tuple[list[Any], list[Any]]:
        """Return the nodes that unpack a constant, in their order, and the stored ones that it is made of."""
        nodes = needed_for(self.computed, [name])
        read = {name, *(each for node in nodes for each in node.input)}
        inside = [a.t for node in nodes if node.op_type == "Constant" for a in node.attribute if a.name == "value"]
        return nodes, [*(tensor for key, tensor in self.constants.items() if key in read), *inside]

    @staticmethod
    def _dtype(nodes: list[Any], largest: Any) -> str:
        """Return what a constant is stored as."""
        plain = all(node.op_type in (*UNPACKING, "Constant") for node in nodes)
        return dtype_of(largest) if plain else CODED

    def _value(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        if name in self.constants:
            return _array(numpy_helper.to_array(self.constants[name]))
        return _array(run_constants(self.proto, self.computed, [name], self.path, self.constants.values())[name])

    def _known(self, name: str) -> np.ndarray | None:
        return self._value(name) if name in self.names else None

    def _grid(self, nodes: list[Any]) -> TensorGrid | None:
        """Return the grid of what nodes unpack; `None` where it is of floats."""
        for node in nodes:
            if node.op_type == "DequantizeLinear":
                integers, scale = (self._known(each) for each in node.input[:2])
                zero = self._known(node.input[2]) if len(node.input) > 2 else None
                if integers is not None and scale is not None:
                    zero = np.zeros(1) if zero is None else zero.astype(np.int64)
                    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
                    scale, zero = (_at_axis(part, integers.ndim, axis) for part in (scale, zero))
                    return TensorGrid.of_integers(integers, scale, zero)
            elif node.op_type == "Mul":
                casts = [self._cast(each) for each in node.input]
                integers = next((found for found in casts if found is not None), None)
                scale = next(
                    (self._known(each) for each, cast in zip(node.input, casts, strict=True) if cast is None), None
                )
                if integers is not None and scale is not None:
                    return TensorGrid.of_integers(integers, scale, np.zeros(1))
            elif node.op_type in ("Gather", "GatherElements"):
                table = self._known(node.input[0])
                if table is not None and table.dtype.kind == "f" and table.ndim <= 2:
                    return TensorGrid.of_table(table)
        return None

    def _cast(self, name: str) -> np.ndarray | None:
        """Return the integers that a constant is cast from; `None`: from none."""
        node = next((each for each in self.computed if name in each.output), None)
        found = self._known(node.input[0]) if node is not None and node.op_type == "Cast" else None
        return found if found is not None and found.dtype.kind in "iu" else None

    def _scale(self, node: Any, place: int) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the scale and the zero point of the integers that an operator reads."""
        zero_place = QUANTIZED.get(node.op_type, (set(), set(), {}))[2].get(place)
        if zero_place is None:  # a table, of which rows are made real numbers
            scale = next(map(self._known, self._factors(node.output[0])), None)
            return scale, np.zeros(1)
        given = node.input[zero_place] if zero_place < len(node.input) else ""
        zero = self._known(given)
        zero = np.zeros(1) if zero is None else zero.astype(np.float32)
        if not node.op_type.endswith("Integer"):
            return self._known(node.input[zero_place - 1]), zero
        scales = [name for name in self._factors(node.output[0]) if name in self.names]
        return (self._value(scales[0]) if scales else None), zero

    def _factors(self, name: str) -> Iterator[str]:
        """Yield what a sum of products of integers is multiplied by, and what that is a product of."""
        for reader in self.index.readers(name):
            if reader.op_type in ("Cast", "Reshape"):
                yield from self._factors(reader.output[0])
            elif reader.op_type == "DequantizeLinear":
                yield reader.input[1]
            elif reader.op_type == "Mul":
                for other in (each for each in reader.input if each != name):
                    made = self.index.producer(other)
                    yield other
                    yield from made.input if made is not None and made.op_type == "Mul" else ()


def _directions(weight: FileWeight, operator: str) -> Iterator[FileWeight]:
    """Yield the weight of an operator; of a recurrent one that of each direction, its gates in the order of Keras."""
    if operator not in GATES:
        yield weight
        return
    count, rows, columns = weight.values.shape
    places = GATES[operator]
    grid = weight.grid and dataclasses.replace(weight.grid, scales=max(1, weight.grid.scales // count))
    for values in weight.values.reshape(count, len(places), rows // len(places), columns):
        laid = values[list(places)].reshape(rows, columns)
        yield dataclasses.replace(weight, values=laid, nbytes=weight.nbytes // count, grid=grid)


def _array(values: np.ndarray) -> np.ndarray:
    """Return an array of a type of NumPy's own: those of 4 bits and bfloat16 are from elsewhere."""
    if values.dtype.kind in "iuf":
        return values
    return values.astype(np.int8 if "int" in values.dtype.name else np.float32)


def _at_axis(part: np.ndarray, rank: int, axis: int) -> np.ndarray:
    """Return scales or zero points so that they broadcast with a tensor; those of blocks have its rank."""
    if part.size == 1:
        return part.reshape(-1)
    return part.reshape([-1 if at == axis % rank else 1 for at in range(rank)]) if part.ndim == 1 else part
