"""In what numbers the operators of a TFLite file compute."""

from __future__ import annotations

import collections
import pathlib
from typing import Any

import numpy as np

from tfcompress.export.plan.file_operators import FileArithmetic, FileOperator, label, width
from tfcompress.export.plan.planned_weights import digest
from tfcompress.export.tflite.integer_lstms import CELL_GRID
from tfcompress.export.tflite.integer_operators import FIXED
from tfcompress.export.tflite.weights.packed_integers import BITS, unpack
from tfcompress.quantization.numerics.grid import Grid

BORDERS = ("QUANTIZE", "DEQUANTIZE", "DENSIFY")
"""What only changes the form of numbers."""

CONTROL = ("WHILE", "IF", "CALL", "CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")
"""What runs other graphs; the operators of those count."""

SHAPES = ("SHAPE", "RANK")
"""What looks at a tensor's shape, whatever its values."""

WEIGHTS = {
    "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1, "CONV_3D": 1,
    "CONV_3D_TRANSPOSE": 1, "BATCH_MATMUL": 1, "GATHER": 0, "EMBEDDING_LOOKUP": 1,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 1,
}  # fmt: skip
"""Which input of an operator may be its weights."""

OWN = {*FIXED.values(), CELL_GRID}
"""Grids that operators have by themselves."""

TABLES = ("GATHER", "EMBEDDING_LOOKUP")
FLOATS = ("FLOAT32", "FLOAT16", "BFLOAT16", "FLOAT64")
INTEGERS = {"INT2": 8, "INT4": 8, "INT8": 8, "UINT8": 8, "INT16": 16}


def read(path: pathlib.Path) -> FileArithmetic:
    """Read a file without taking it into memory as a whole."""
    return _Reader(path).run()


def signature_outputs(model: Any) -> dict[int, str]:
    """Return {tensor of the first graph: name of the model's output that it is}."""
    found: dict[int, str] = {}
    for signature in map(model.SignatureDefs, range(model.SignatureDefsLength())):
        entries = map(signature.Outputs, range(signature.OutputsLength()))
        if not signature.SubgraphIndex():
            found.update((entry.TensorIndex(), entry.Name().decode()) for entry in entries)
    return found


class _Reader:
    def __init__(self, path: pathlib.Path):
        from ai_edge_litert import schema_py_generated as schema

        self.model = schema.Model.GetRootAs(np.memmap(path, np.uint8, "r"), 0)
        self.kinds = {n: name for name, n in vars(schema.BuiltinOperator).items() if isinstance(n, int)}
        self.types = {n: name for name, n in vars(schema.TensorType).items() if isinstance(n, int)}
        self.blockwise = schema.QuantizationDetails.BlockwiseQuantization
        self.operators: list[FileOperator] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.kernels: list[int] = []
        self.activations: int | str | None = None
        self.halves = False
        self.grids: list[tuple[str, Grid]] = []
        self.outputs: dict[int, str] = {}
        """Of the graph that is read: the names of the model's outputs, by tensor."""
        self.made: dict[int, int] = {}
        """Of it: the operator that makes each tensor."""
        self.unpacked: dict[int, int] = {}
        """Of it: the stored constant behind each one that is unpacked."""
        self.of_shapes: set[int] = set()
        """Of it: what is computed of shapes and constants alone."""

    def run(self) -> FileArithmetic:
        outputs = signature_outputs(self.model)
        for place in range(self.model.SubgraphsLength()):
            self.graph(self.model.Subgraphs(place), outputs if not place else {})
        precision = label(self.kernels, self.activations, self.halves)
        return FileArithmetic(tuple(self.operators), precision, tuple(self.grids), dict(self.counts))

    def graph(self, graph: Any, outputs: dict[int, str]) -> None:
        self.subgraph, self.outputs = graph, outputs
        self.made, self.unpacked, self.of_shapes = {}, {}, set()
        called = [self.called(graph.Operators(place)) for place in range(graph.OperatorsLength())]
        self.counts.update(kind for kind, *_ in called)
        self.find_grids(called)
        for kind, op, inputs, results in called:
            if kind in ("DEQUANTIZE", "DENSIFY") and self.constant(self.unpacked.get(inputs[0], inputs[0])):
                self.unpacked[results[0]] = self.unpacked.get(inputs[0], inputs[0])
                continue
            if kind in BORDERS:
                self.made[results[0]] = self.made.get(inputs[0], -1)
                continue
            if kind not in CONTROL:
                self.operator(kind, op, inputs, results)

    def called(self, op: Any) -> tuple[str, Any, list[int], list[int]]:
        """Return an operator's kind, itself, and its inputs and outputs."""
        code = self.model.OperatorCodes(op.OpcodeIndex())
        kind = self.kinds.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "CUSTOM")
        kind = code.CustomCode().decode() if kind == "CUSTOM" and code.CustomCode() else kind
        inputs = [int(i) for i in op.InputsAsNumpy() if i >= 0] if op.InputsLength() else []
        results = [int(i) for i in op.OutputsAsNumpy()] if op.OutputsLength() else []
        return kind, op, inputs, results

    def find_grids(self, called: list[tuple[str, Any, list[int], list[int]]]) -> None:
        """Note the grids of activations, but for those that a kernel has by itself or a factor behind it makes."""
        follows: set[int] = set()
        for kind, _, inputs, results in reversed(called):
            moving = [i for i in inputs if not self.constant(i) and self.quantized(i)]
            for index in results:
                grid = self.grid(index)
                if grid is not None and index not in follows and grid not in OWN:
                    self.grids.append((self.name(index), grid))
            if kind == "MUL" and len(moving) == 1 < len(inputs):
                follows.update(moving)
            elif follows.intersection(results):
                follows.update(i for i in moving if self.grid(i) == self.grid(results[0]))

    def grid(self, index: int) -> Grid | None:
        """Return the grid of a quantized tensor, as signed integers."""
        if not self.quantized(index) or self.constant(index) or self.variable(index):
            return None
        quantization, kind = self.subgraph.Tensors(index).Quantization(), self.type(index)
        zero_point = int(quantization.ZeroPoint(0)) - (128 if kind == "UINT8" else 0)
        return Grid(float(quantization.Scale(0)), zero_point, INTEGERS[kind])

    def operator(self, kind: str, op: Any, inputs: list[int], results: list[int]) -> None:
        if any(map(self.variable, results)) or (kind == "RESHAPE" and self.variable(inputs[0])):
            return  # what begins a sequence, or takes its last state
        types = [self.type(i) for i in results]
        place = WEIGHTS.get(kind)
        weight = int(op.Inputs(place)) if place is not None and place < op.InputsLength() else -1
        stored = self.stored(self.unpacked.get(weight, weight)) if weight >= 0 else None
        moving = [i for i in inputs if not self.constant(i) and i not in self.unpacked]
        if stored is None and (kind in SHAPES or (moving and self.of_shapes.issuperset(moving))):
            self.of_shapes.update(results)
            return
        moving = [i for i in moving if not self.variable(i)]
        given = [self.type(i) for i in moving]
        quantized = [self.type(i) for i in (*moving, *results) if self.quantized(i) and not self.constant(i)]
        whole = stored is not None and stored.startswith("int")
        hybrid = whole and weight not in self.unpacked and "FLOAT32" in given and "FLOAT32" in types
        table = kind in TABLES and whole and weight not in self.unpacked
        if hybrid:
            integer = True
        elif any(name in FLOATS for name in (*given, *types)):
            integer = False
        elif quantized:
            integer = True
        else:
            return  # indices
        if hybrid:
            self.activations = self.activations or "dynamic"
        elif integer and not table:
            self.activations = max(INTEGERS.get(name, 8) for name in quantized)
        names = tuple(name for name in (self.outputs.get(i, self.name(i)) for i in results) if name)
        before = tuple(dict.fromkeys(self.made[i] for i in inputs if self.made.get(i, -1) >= 0))
        self.made.update((i, len(self.operators)) for i in results)
        size = int(np.prod(self.subgraph.Tensors(weight).ShapeAsNumpy())) if stored else 0
        integers = self.digest(self.unpacked.get(weight, weight)) if whole else ""
        tensor = names[0] if names else ""
        self.operators.append(FileOperator(kind, tensor, names, integer, stored, size, before, integers))

    def stored(self, index: int) -> str | None:
        """Return what a constant is stored as; `None` for what is no constant."""
        if not self.constant(index):
            return None
        kind = self.type(index)
        if kind in INTEGERS and self.quantized(index):
            self.kernels.append(width(self.integers(index)) if kind in BITS else 8)
            return kind.lower() if kind in BITS else "int8"
        self.halves = self.halves or kind == "FLOAT16"
        return {"FLOAT16": "float16", "FLOAT32": "float32"}.get(kind)

    def digest(self, index: int) -> str:
        return digest(self.integers(index)) if self.type(index) in BITS else ""

    def integers(self, index: int) -> np.ndarray:
        """Return the integers of a constant, flat; of a sparse one those that are stored."""
        tensor = self.subgraph.Tensors(index)
        stored = self.model.Buffers(tensor.Buffer()).DataAsNumpy()
        bits = BITS[self.type(index)]
        return stored.view(np.int8) if bits == 8 else unpack(stored, bits, int(np.prod(tensor.ShapeAsNumpy())))

    def constant(self, index: int) -> bool:
        buffer = self.model.Buffers(self.subgraph.Tensors(index).Buffer())
        return bool(buffer.DataLength() or buffer.Size())

    def variable(self, index: int) -> bool:
        return bool(self.subgraph.Tensors(index).IsVariable())

    def quantized(self, index: int) -> bool:
        quantization = self.subgraph.Tensors(index).Quantization()
        if self.type(index) not in INTEGERS or quantization is None:
            return False
        return quantization.ScaleLength() > 0 or quantization.DetailsType() == self.blockwise

    def type(self, index: int) -> str:
        return self.types[self.subgraph.Tensors(index).Type()]

    def name(self, index: int) -> str:
        return (self.subgraph.Tensors(index).Name() or b"").decode()
