"""The weights inside an `.onnx` file, as the real numbers that its operators read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfcompress.core.quiet_output import quiet
from tfcompress.evaluation.file_constants import QUANTIZED, dtype_of, open_onnx, stored_bytes
from tfcompress.evaluation.file_weight import FileWeight
from tfcompress.evaluation.tensor_grid import TensorGrid
from tfcompress.export.onnx.node_index import index_of, inner_graphs
from tfcompress.graph.index import TensorIndex

LAYING = ("Expand", "Pad", "Reshape", "Resize", "Slice", "Tile")
"""Operators whose constants say how their input is to be laid."""

CONVOLUTIONS = ("ConvInteger", "QLinearConv")
"""Operators whose weights have their channels along the first axis."""

INDICES = ("bool", "int32", "int64", "string", "uint32", "uint64")
"""What constants that no weights are have as their dtype."""


def weights(path: str | os.PathLike[str]) -> Iterator[FileWeight]:
    """Yield the constants of two or more dimensions that the operators of a file compute with.

    What is computed of constants alone is computed here: a weight is what it is when it has been unpacked.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: it isn't there, or the file beside it that holds its weights.
        ValueError: it isn't an .onnx file.
    """
    proto = open_onnx(path)
    yield from _Reader(proto, proto.graph, {}, {}).weights()


class _Reader:
    """One graph, with what is constant around it.

    Attributes:
        constants: {name: `TensorProto`}.
        unpacking: {name: the node that makes it of constants alone}.
    """

    def __init__(self, proto: Any, graph: Any, constants: dict[str, Any], unpacking: dict[str, Any]):
        self.proto, self.graph = proto, graph
        self.index: TensorIndex[Any, str] = index_of(graph)
        self.constants = {**constants, **{tensor.name: tensor for tensor in graph.initializer}}
        self.unpacking = dict(unpacking)
        self.reading: dict[str, list[tuple[Any, int]]] = {}
        """What isn't constant and reads a constant, and at which of its inputs."""
        for node in graph.node:
            value = next((a.t for a in node.attribute if a.name == "value"), None)
            if node.op_type == "Constant" and value is not None:
                self.constants[node.output[0]] = value
            elif self._is_constant(node):
                self.unpacking.update(dict.fromkeys(filter(None, node.output), node))
            else:
                for place, name in enumerate(node.input):
                    if name in self.constants or name in self.unpacking:
                        self.reading.setdefault(name, []).append((node, place))

    def _is_constant(self, node: Any) -> bool:
        given = [name for name in node.input if name]
        known = all(name in self.constants or name in self.unpacking for name in given)
        return bool(given) and known and not any(inner_graphs(node))

    def weights(self) -> Iterator[FileWeight]:
        for name, readers in self.reading.items():
            found = [(node, place) for node, place in readers if self._computes(node, place)]
            weight = self._weight(name, *found[0], [node for node, _ in found]) if found else None
            if weight is not None:
                yield weight
        for node in self.graph.node:
            for inner in inner_graphs(node):
                yield from _Reader(self.proto, inner, self.constants, self.unpacking).weights()

    @staticmethod
    def _computes(node: Any, place: int) -> bool:
        """Return whether an operator computes with an input, and it isn't a scale, a zero point or a shape."""
        return node.op_type not in LAYING and place not in QUANTIZED.get(node.op_type, ((),))[0]

    def _weight(self, name: str, node: Any, place: int, readers: list[Any]) -> FileWeight | None:
        nodes, stored = self._origins(name)
        largest = max(stored, key=lambda tensor: int(np.prod(tensor.dims)), default=None)
        if largest is None or largest.data_type == 0:
            return None
        dtype = dtype_of(largest)
        if dtype in INDICES or (name in self.constants and len(largest.dims) < 2):
            return None
        values = self._value(name, nodes, stored)
        if values.ndim < 2:
            return None
        whole = values.dtype.kind in "iu"
        grid = self._grid(nodes)
        if whole:
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

    def _origins(self, name: str) -> tuple[list[Any], list[Any]]:
        """Return the nodes that unpack a constant, in their order, and the stored ones that it is made of."""
        nodes: list[Any] = []
        stored: dict[str, Any] = {}

        def visit(each: str) -> None:
            if each in self.constants:
                stored[each] = self.constants[each]
            elif each in self.unpacking and not any(self.unpacking[each] is node for node in nodes):
                for before in filter(None, self.unpacking[each].input):
                    visit(before)
                nodes.append(self.unpacking[each])

        visit(name)
        return nodes, list(stored.values())

    def _value(self, name: str, nodes: list[Any], stored: list[Any]) -> np.ndarray:
        from onnx import helper, numpy_helper

        if name in self.constants:
            return _array(numpy_helper.to_array(self.constants[name]))
        import onnxruntime

        # What a `Constant` holds has no name of its own.
        named = {key: tensor for key, tensor in self.constants.items() if any(tensor is one for one in stored)}
        constants = []
        for key, tensor in named.items():
            constants.append(type(tensor)())
            constants[-1].CopyFrom(tensor)
            constants[-1].name = key
        graph = helper.make_graph(nodes, "constants", [], [helper.make_empty_tensor_value_info(name)], constants)
        how = {"opset_imports": self.proto.opset_import, "ir_version": self.proto.ir_version}
        model = helper.make_model(graph, functions=self.proto.functions, **how)
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        with quiet():
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
            return _array(session.run([name], {})[0])

    def _grid(self, nodes: list[Any]) -> TensorGrid | None:
        """Return the grid of what nodes unpack; `None` where it is of floats."""
        for node in nodes:
            if node.op_type == "DequantizeLinear":
                integers, scale = (self._stored(each) for each in node.input[:2])
                zero = self._stored(node.input[2]) if len(node.input) > 2 else None
                if integers is not None and scale is not None:
                    zero = np.zeros(1) if zero is None else zero.astype(np.int64)
                    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
                    scale, zero = (_at_axis(part, integers.ndim, axis) for part in (scale, zero))
                    return TensorGrid.of_integers(integers, scale, zero)
            elif node.op_type == "Mul":
                pair = [self._stored(each) for each in node.input]
                integers = next((self._cast(each) for each in node.input if self._cast(each) is not None), None)
                scale = next((each for each in pair if each is not None and each.dtype.kind == "f"), None)
                if integers is not None and scale is not None:
                    return TensorGrid.of_integers(integers, scale, np.zeros(1))
            elif node.op_type in ("Gather", "GatherElements"):
                table = self._stored(node.input[0])
                if table is not None and table.dtype.kind == "f" and table.ndim <= 2:
                    return TensorGrid.of_table(table)
        return None

    def _stored(self, name: str) -> np.ndarray | None:
        from onnx import numpy_helper

        return _array(numpy_helper.to_array(self.constants[name])) if name in self.constants else None

    def _cast(self, name: str) -> np.ndarray | None:
        """Return the stored integers that a tensor is cast from; `None`: it is none of these."""
        node = self.unpacking.get(name)
        found = self._stored(node.input[0]) if node is not None and node.op_type == "Cast" else None
        return found if found is not None and found.dtype.kind in "iu" else None

    def _scale(self, node: Any, place: int) -> tuple[np.ndarray | None, np.ndarray]:
        """Return the scale and the zero point of the integers that an operator reads."""
        zero_place = QUANTIZED.get(node.op_type, (set(), set(), {}))[2].get(place)
        if zero_place is None:  # a table, of which rows are made real numbers
            scale = next(map(self._stored, self._factors(node.output[0])), None)
            return scale, np.zeros(1)
        given = node.input[zero_place] if zero_place < len(node.input) else ""
        zero = self._stored(given)
        zero = np.zeros(1) if zero is None else zero.astype(np.float32)
        if not node.op_type.endswith("Integer"):
            return self._stored(node.input[zero_place - 1]), zero
        scales = [name for name in self._factors(node.output[0]) if name in self.constants or name in self.unpacking]
        return (self._value(scales[0], *self._origins(scales[0])) if scales else None), zero

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
