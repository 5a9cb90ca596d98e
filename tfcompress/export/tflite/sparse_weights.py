"""Which weights of a TFLite file are stored without their zeros, and in which form the runtime reads them right."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np

from tfcompress.export.tflite.flatbuffer import File
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.export.tflite.sparse_encoding import BLOCKS, Sparse, encode, parameters

SPARSE_VERSION = 8
"""Of FULLY_CONNECTED, whose kernel reads sparse weights. XNNPACK leaves that version to the kernel; of any other it
reads the weights itself, as if they were dense: wrong numbers, or a crash."""

FLOAT_BLOCK, INTEGER_BLOCK = 4, 16
"""Inputs of a fully connected kernel that its sparse form keeps together; the integer kernel knows no other."""

FAST_FLOAT, FAST_INTEGER, FAST_DYNAMIC = 0.15, 0.05, 0.03
"""Up to which stored part of the weights the sparse kernel is the faster one at batch 1 (784-1024-1024-10, one thread,
x86 with AVX512-VNNI, `python -m benchmarks.inference --part=sparse`): in float the times cross at 20 %, in int8 at 5 to
6 %, and at 4 % where the input is rounded at run time."""

SLOW_INTEGER = 0.25
"""Up to which stored part a smaller file is worth a slower kernel of int8: a quarter of the bytes in three times the
time. In float there is no such bargain, as weights that are widened take no longer than dense ones."""

OVERHEAD = 512
"""Bytes that an operator and the description of a form may take: less than that isn't worth it."""

PACKED = ("INT4", "INT2")
"""Types that several values share a byte in."""

_DTYPES = {"FLOAT32": np.float32, "FLOAT16": np.float16, "INT8": np.int8}
_READERS = {
    "BATCH_MATMUL", "CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "FULLY_CONNECTED", "GATHER",
    "TRANSPOSE_CONV",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Choice:
    """How one weight is stored.

    Attributes:
        index: Of its tensor, in the main graph.
        name: Of its tensor.
        form: What is stored.
        direct: Whether the kernel reads the form; otherwise it is widened once, when the file is loaded.
        slower: Whether that takes longer than with dense weights.
    """

    index: int
    name: str
    form: Sparse
    direct: bool
    slower: bool = False


@dataclasses.dataclass(frozen=True)
class SparsePlan:
    """How each weight of a file is stored, dense or sparse.

    Attributes:
        choices: Those that are stored sparsely.
        dense: {name: reason}, of those with zeros that stay dense.
    """

    choices: tuple[Choice, ...]
    dense: dict[str, str]


@dataclasses.dataclass(frozen=True, eq=False)
class _Weight:
    """A constant of the main graph, and the operators that read it."""

    graph: Graph
    index: int
    values: np.ndarray
    readers: list[Any]

    @property
    def name(self) -> str:
        name = self.graph.tensor_name(self.index).split(";")[0].removesuffix("/integers")
        return name or f"tensor {self.index}"

    @property
    def type(self) -> str | None:
        return self.graph.type(self.index)

    @property
    def kinds(self) -> set[str]:
        return {self.graph.name(op) for op in self.readers}

    @property
    def input_types(self) -> set[str | None]:
        return {self.graph.type(int(op.inputs[0])) for op in self.readers}

    @property
    def connected(self) -> bool:
        """Whether it is the weights of fully connected kernels, and nothing else."""
        return self.kinds == {"FULLY_CONNECTED"} and all(int(op.inputs[1]) == self.index for op in self.readers)

    @property
    def of_vectors(self) -> bool:
        """Whether each kernel multiplies one vector, for which sparse kernels are made, and not a matrix."""
        return all(self.graph.is_vector(int(op.inputs[0])) for op in self.readers)

    def choice(self, form: Sparse, direct: bool, slower: bool = False) -> Choice:
        return Choice(self.index, self.name, form, direct, slower)

    def smaller(self, form: Sparse) -> bool:
        return form.nbytes + OVERHEAD < self.values.nbytes


def plan(content: bytes, keep_speed: bool) -> SparsePlan:
    """Choose a form for each weight that gets smaller by it.

    Args:
        content: A file's bytes.
        keep_speed: Whether weights stay dense whose sparse kernel is the slower one at all; otherwise those whose is
            much slower.
    """
    file = File(content)
    graph = file.graphs[0]
    choices: list[Choice] = []
    dense: dict[str, str] = {}
    for index in dict.fromkeys(int(index) for op in graph.operators for index in op.inputs):
        kind = graph.type(index)
        if kind in PACKED:
            name = _Weight(graph, index, np.zeros(0), graph.index.readers(index)).name
            dense[name] = f"it is stored in {kind}, which no sparse kernel reads"
        values = _values(graph, index)
        if values is None or graph.index.is_output(index) or values.all() or not values.any():
            continue
        weight = _Weight(graph, index, values, graph.index.readers(index))
        found = _choose(weight, keep_speed)
        if isinstance(found, Choice):
            choices.append(found)
        else:
            dense[weight.name] = found
    for body in file.graphs[1:]:
        for index in range(len(body.tensors)):
            values = _values(body, index)
            if values is not None and values.any() and not values.all():
                dense[body.tensor_name(index).split(";")[0]] = "a loop reads it, which would widen it in every step"
    return SparsePlan(tuple(choices), dense)


def apply(content: bytes, choices: Collection[Choice]) -> bytes:
    """Return a file with the chosen weights stored sparsely."""
    file = File(content)
    graph = file.graphs[0]
    buffers: dict[tuple[int, int], int] = {}
    widened: dict[int, list[Any]] = {}  # in front of which operator
    for choice in choices:
        tensor = graph.tensors[choice.index]
        key = tensor.buffer, choice.form.block
        if key not in buffers:
            buffers[key] = file.buffer(choice.form.values)
        tensor.buffer = buffers[key]
        tensor.sparsity = parameters(file.schema, choice.form)
        readers = graph.index.readers(choice.index)
        if choice.direct:
            for op in readers:
                op.opcodeIndex = file.code("FULLY_CONNECTED", SPARSE_VERSION)
        else:
            widened.setdefault(id(readers[0]), []).append(_widen(graph, choice.index))
    graph.operators = [one for op in graph.operators for one in (*widened.get(id(op), ()), op)]
    return file.to_bytes()


def _widen(graph: Graph, index: int) -> Any:
    """Return a DENSIFY to stand between a sparse constant and what reads it."""
    schema = graph.file.schema
    wide = graph.add(index, graph.type(index) or "", suffix="/dense")
    graph.tensors[wide].quantization = graph.tensors[index].quantization
    op = graph.operator("DENSIFY", 1, [index], [wide])
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.DensifyOptions, schema.DensifyOptionsT()
    for reader, place in graph.index.readings(index):
        graph.set_input(reader, place, wide)
    return op


def _values(graph: Graph, index: int) -> np.ndarray | None:
    """Return a constant of two or more dimensions, or `None`."""
    dtype = _DTYPES.get(graph.type(index) or "")
    if dtype is None or len(graph.shape(index)) < 2 or graph.tensors[index].sparsity is not None:
        return None
    data = graph.file.model.buffers[graph.tensors[index].buffer].data
    if data is None or len(data) == 0:
        return None
    return np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype).reshape(graph.shape(index))


def _choose(weight: _Weight, keep_speed: bool) -> Choice | str:
    """Return how a weight is stored sparsely, or the reason why it isn't."""
    if not weight.kinds <= _READERS:
        return f"{', '.join(sorted(weight.kinds - _READERS))} reads it"
    if weight.type == "INT8" and weight.connected and weight.input_types != {"INT16"}:
        return _choose_integer(weight, keep_speed)
    if weight.type == "INT8" and "FLOAT32" in weight.input_types and weight.kinds & {"CONV_2D", "FULLY_CONNECTED"}:
        return "no kernel that rounds its input at run time reads it sparse"
    if weight.type == "FLOAT32" and weight.connected and weight.of_vectors:
        form = encode(weight.values, FLOAT_BLOCK)
        if form is not None and form.share <= FAST_FLOAT and weight.smaller(form):
            return weight.choice(form, direct=True)
    forms = [form for form in (encode(weight.values, block) for block in BLOCKS) if form is not None]
    smallest = min(forms, key=lambda form: form.nbytes)
    return weight.choice(smallest, direct=False) if weight.smaller(smallest) else _FEW


def _choose_integer(weight: _Weight, keep_speed: bool) -> Choice | str:
    """Choose for a fully connected kernel of int8, which no DENSIFY may stand before: XNNPACK refuses that file."""
    form = encode(weight.values, INTEGER_BLOCK)
    if form is None:
        inputs = weight.values.shape[-1]
        return f"its kernel takes blocks of {INTEGER_BLOCK} inputs, and there are {inputs} inputs"
    if not weight.smaller(form):
        return _FEW
    fast = FAST_DYNAMIC if "FLOAT32" in weight.input_types else FAST_INTEGER
    slower = form.share > fast or not weight.of_vectors
    if form.share > SLOW_INTEGER or (slower and keep_speed):
        return (
            f"with {form.share:.0%} of its blocks of {INTEGER_BLOCK} inputs not all zero the sparse kernel is slower "
            "than the dense one"
        )
    return weight.choice(form, direct=True, slower=slower)


_FEW = "too few zeros to get smaller"
