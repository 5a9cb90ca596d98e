"""In what numbers the operators of an ONNX file compute, in ONNX Runtime."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tfcompress.export.onnx.graph_editor import attributes
from tfcompress.export.onnx.node_index import index_of, inner_graphs
from tfcompress.export.onnx.propagate import FUSED
from tfcompress.export.onnx.weights.folding import folded
from tfcompress.export.onnx.weights.matmul_nbits import INT8_INPUTS, KIND, PackedMatrix, is_symmetric
from tfcompress.export.plan.file_operators import FileArithmetic, FileOperator, label, width
from tfcompress.export.plan.planned_weights import digest
from tfcompress.quantization.numerics.grid import Grid
from tfcompress.runtime.external_data import raw_values

KERNELS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger", "ConvInteger", KIND)
"""What may have weights, as its second input."""

BETWEEN = (
    "Add", "ArgMax", "AveragePool", "Concat", "Conv", "Gemm", "GlobalAveragePool", "LeakyRelu", "MatMul", "Mul",
    "Sigmoid", "Softmax", "Where", *FUSED,
)  # fmt: skip
"""What ONNX Runtime runs in integers where it finds DequantizeLinear in front and QuantizeLinear behind."""

INTEGERS = ("ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulInteger", "QAttention", "QGemm")
BORDERS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
"""What only changes the form of numbers."""

SILENT = ("Cast", "Constant", "Identity", "If", "Loop", "Scan")
"""What computes nothing by itself; the operators of inner graphs count."""

SHAPES = ("Shape", "Size")
"""What looks at a tensor's shape, whatever its values."""

NARROW = {"int2": 2, "int4": 4}
"""Bits of dtypes that have fewer than 8."""

LARGE = 1024
"""Bytes from which on the values of a constant can't be a shape."""


class _Stored(NamedTuple):
    """A constant: its dtype, size and rank; the bits of integers, the digest of a kernel's; the value of a scalar."""

    dtype: str = ""
    size: int = 0
    rank: int = 0
    bits: int = 0
    digest: str = ""
    value: float | None = None


def read(path: pathlib.Path) -> FileArithmetic:
    """Read a file; of weights that are unpacked when it is loaded, what they are then."""
    import onnx

    return _Reader(folded(onnx.load(path, load_external_data=False), path), path).run()


class _Reader:
    def __init__(self, proto: Any, path: pathlib.Path):
        import onnx

        self.onnx, self.proto, self.path = onnx, proto, path
        self.operators: list[FileOperator] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.kernels: list[int] = []
        self.activations: int | str | None = None
        self.halves = False
        self.grids: list[tuple[str, Grid]] = []
        self.of_shapes: set[str] = set()
        """What is computed of shapes and constants alone, in any graph."""

    def run(self) -> FileArithmetic:
        self.stored = {tensor.name: self.stored_of(tensor) for tensor in self._initializers(self.proto.graph)}
        self.stored.update(self._packed(self.proto.graph))
        for tensor in self._initializers(self.proto.graph):  # what has been read needn't be copied again
            if len(tensor.raw_data) > LARGE:
                tensor.ClearField("raw_data")
        self.inferred = self.onnx.shape_inference.infer_shapes(self.proto).graph
        self.read_graph(self.inferred, {})
        precision = label(self.kernels, self.activations, self.halves)
        return FileArithmetic(tuple(self.operators), precision, tuple(self.grids), dict(self.counts))

    def _initializers(self, graph: Any) -> Any:
        yield from graph.initializer
        for node in graph.node:
            for inner in inner_graphs(node):
                yield from self._initializers(inner)

    def _packed(self, graph: Any) -> Iterator[tuple[str, _Stored]]:
        """Yield the weights that MatMulNBits reads."""
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if is_symmetric(node) and node.input[1] in tensors:
                tensor = tensors[node.input[1]]
                raw = raw_values(tensor, self.path)
                if raw:
                    matrix = PackedMatrix.read(node, np.frombuffer(raw, np.uint8).reshape(tensor.dims))
                    found = matrix.integers
                    yield tensor.name, _Stored(f"int{matrix.bits}", found.size, 2, width(found), digest(found))

    def stored_of(self, tensor: Any) -> _Stored:
        if not tensor.data_type:  # a Constant that is a string, or a plain number
            return _Stored(size=1)
        dtype = self.onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        bits = NARROW.get(dtype.name, 8)
        size, found, value = int(np.prod(tensor.dims)), "", None
        if dtype == np.int8 and (raw := raw_values(tensor, self.path)):
            values = np.frombuffer(raw, np.int8)
            bits = width(values)
            found = digest(values)
        if size == 1 and dtype.kind in "fiu" and not self.onnx.external_data_helper.uses_external_data(tensor):
            value = float(self.onnx.numpy_helper.to_array(tensor).item())
        return _Stored(dtype.name, size, len(tensor.dims), bits, found, value)

    def read_graph(self, graph: Any, outer: dict[str, str]) -> None:
        kinds = {**outer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            kinds[value.name] = self._dtype(value.type.tensor_type.elem_type)
        _GraphReader(self, graph, kinds).run()

    def _dtype(self, element: int) -> str:
        return self.onnx.helper.tensor_dtype_to_np_dtype(element).name if element else ""


class _GraphReader:
    """One graph; `kinds` are the dtypes of its tensors by name, those of the graphs around it too."""

    def __init__(self, reader: _Reader, graph: Any, kinds: dict[str, str]):
        self.reader, self.graph, self.kinds = reader, graph, kinds
        self.constant = {name: name for name in reader.stored}
        """The stored constant that each tensor is unpacked from."""
        self.grids: dict[str, str] = {}
        """Of what lies on a grid: real numbers behind a DequantizeLinear, or integers; the dtype of the integers."""
        self.sums: set[str] = set()
        """Sums of products of integers, and their scales, on the way to real numbers."""
        self.made: dict[str, int] = {}
        self.index = index_of(graph)

    def run(self) -> None:
        for value in self.graph.input:
            if self.kinds.get(value.name) in ("int8", "uint8"):
                self.grids[value.name] = self.kinds[value.name]
        self.reader.counts.update(node.op_type for node in self.graph.node)
        for node in self.graph.node:
            for inner in inner_graphs(node):
                self.reader.read_graph(inner, self.kinds)
            if not self._skipped(node):
                self._operator(node)

    def _skipped(self, node: Any) -> bool:
        given = [name for name in node.input if name]
        if node.op_type == "Constant":
            self.constant[node.output[0]] = node.output[0]
            tensor = node.attribute[0].t
            self.reader.stored.setdefault(node.output[0], self.reader.stored_of(tensor))
            return True
        if given and all(name in self.constant for name in given):
            source = max(given, key=lambda name: self.reader.stored[self.constant[name]].size)
            self.constant.update((name, self.constant[source]) for name in node.output)
            return True
        if node.op_type in BORDERS:
            self._border(node)
            return True
        if node.op_type == "Cast" and given[0] in self.sums:
            self.sums.update(node.output)
        scales = [name for name in given if name in self.sums]
        if node.op_type == "Mul" and scales and all(name in self.sums or name in self.constant for name in given):
            self.sums.update(node.output)
            self.made.update((name, self.made[scales[0]]) for name in node.output if scales[0] in self.made)
            return True
        return node.op_type in SILENT and not list(inner_graphs(node)) and self._passes(node)

    def _passes(self, node: Any) -> bool:
        if self._of_shapes(node, list(node.input)):
            self.reader.of_shapes.update(node.output)
        for name in node.output:
            if node.input and node.input[0] in self.made:
                self.made[name] = self.made[node.input[0]]
            if node.op_type == "Identity" and node.input[0] in self.grids:
                self.grids[name] = self.grids[node.input[0]]
        return True

    def _border(self, node: Any) -> None:
        if node.op_type == "DynamicQuantizeLinear":
            self.sums.add(node.output[1])
            self.grids[node.output[0]] = "uint8"
            return
        scale, zero = (self.reader.stored.get(name) for name in (*node.input[1:3], "")[:2])
        kind = zero.dtype if zero else "uint8"
        self.grids[node.output[0]] = kind
        if node.op_type == "QuantizeLinear" and scale and zero and scale.value is not None and zero.value is not None:
            bits = 16 if "16" in kind else 8
            lowest = 2 ** (bits - 1) if kind.startswith("u") else 0
            self.reader.grids.append((node.output[0], Grid(scale.value, int(zero.value) - lowest, bits)))
        self._passes(node)

    def _operator(self, node: Any) -> None:
        given = [name for name in node.input if name]
        moving = [name for name in given if name not in self.constant]
        weight = self.constant.get(node.input[1]) if node.op_type in KERNELS and len(node.input) > 1 else None
        table = self.constant.get(node.input[0]) if node.op_type == "Gather" else None
        stored = self.reader.stored.get(weight or table or "", _Stored())
        if stored.rank < 2 or stored.dtype not in ("int2", "int4", "int8", "float16", "float32"):
            stored = _Stored()
        if not stored.size and not any(inner_graphs(node)) and self._of_shapes(node, moving):
            self.reader.of_shapes.update(node.output)
            return
        floats = [name for name in (*moving, *node.output) if self._is_float(name)]
        packed = node.op_type == KIND and attributes(node).get("accuracy_level") == INT8_INPUTS
        integer = node.op_type.startswith("QLinear") or node.op_type in INTEGERS or packed
        if integer:
            pass
        elif floats:
            integer = self._between(node, moving)
        elif any(name in self.grids for name in moving):
            integer = True
            self.grids.update((name, self.grids[moving[0]]) for name in node.output if moving[0] in self.grids)
        else:
            return  # indices
        if stored.dtype.startswith("int"):
            self.reader.kernels.append(stored.bits)
        self.reader.halves = self.reader.halves or stored.dtype == "float16"
        if packed:
            self.reader.activations = self.reader.activations or "dynamic"
        elif node.op_type in ("MatMulInteger", "DynamicQuantizeMatMul"):
            self.sums.update(node.output)
            self.reader.activations = self.reader.activations or "dynamic"
        elif integer or any(self.grids.get(name) in ("uint16", "int16") for name in moving):
            wide = any(self.grids.get(name) in ("uint16", "int16") for name in moving)
            self.reader.activations = 16 if wide else 8
        before = tuple(dict.fromkeys(self.made[name] for name in moving if name in self.made))
        self.made.update((name, len(self.reader.operators)) for name in node.output)
        names = tuple(name for name in (node.name, *node.output) if name)
        how = stored.dtype or None, stored.size, before, stored.digest
        self.reader.operators.append(FileOperator(node.op_type, node.output[0], names, integer, *how))

    def _of_shapes(self, node: Any, moving: list[str]) -> bool:
        """Return whether what an operator makes is the same whatever the values of the model's inputs."""
        return node.op_type in SHAPES or (bool(moving) and self.reader.of_shapes.issuperset(moving))

    def _between(self, node: Any, moving: list[str]) -> bool:
        """Return whether an operator stands between grids, where it has an integer kernel."""
        if node.op_type not in BETWEEN or node.domain not in ("", "ai.onnx"):
            return False
        if not all(self._form(name) in ("int8", "uint8", "int32") for name in node.input if self._is_float(name)):
            return False
        return all(
            not self._is_float(name) or (not self.index.is_output(name) and _rounded(self.index.readers(name)))
            for name in node.output
        )

    def _form(self, name: str) -> str | None:
        """Return the dtype of the integers that stand for real numbers, activations or constants."""
        return self.reader.stored[self.constant[name]].dtype if name in self.constant else self.grids.get(name)

    def _is_float(self, name: str) -> bool:
        kind = self.kinds.get(name) or (self.reader.stored[name].dtype if name in self.reader.stored else "")
        return not kind or "float" in kind if name else False


def _rounded(readers: list[Any]) -> bool:
    return all(node.op_type == "QuantizeLinear" for node in readers)
