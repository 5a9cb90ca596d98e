"""A TFLite file taken apart, changed and put together again: the schema's object form with names for numbers."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

ALIGNMENT = 16
"""Bytes: where the schema wants the data of a buffer to start (`force_align`)."""


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of a file.

    Attributes:
        name: As in the schema, "CONV_2D"; a custom one by the name that it was given.
        version: Of the operator's code.
        inputs: The type of each input, "INT8"; `None` where an optional one isn't given.
        outputs: The type of each output.
        subgraph: 0: the model itself; the others are the bodies of loops and conditions.
    """

    name: str
    version: int
    inputs: tuple[str | None, ...]
    outputs: tuple[str | None, ...]
    subgraph: int


def operators(content: bytes) -> list[Operator]:
    """Return the operators of a TFLite file, in the order in which they run.

    Args:
        content: The file's bytes.
    """
    file = File(content)
    return [
        Operator(
            graph.name(op),
            file.model.operatorCodes[op.opcodeIndex].version,
            tuple(graph.type(index) for index in op.inputs),
            tuple(graph.type(index) for index in op.outputs),
            place,
        )
        for place, graph in enumerate(file.graphs)
        for op in graph.operators
    ]


class File:
    """A file in object form.

    Args:
        content: Its bytes; they aren't changed.
    """

    def __init__(self, content: bytes):
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.names = _by_number(schema.BuiltinOperator)
        self.types = _by_number(schema.TensorType)
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
        self.graphs = [Graph(self, graph) for graph in self.model.subgraphs]

    def to_bytes(self) -> bytes:
        """Return the file's bytes, without what no operator uses any more."""
        self._drop_unused()
        largest = sum(len(buffer.data) for buffer in self.model.buffers if buffer.data is not None)
        builder = _builder(largest + 65536)
        aligned = copy.copy(self.model)
        aligned.buffers = [_Aligned(self.schema, buffer) for buffer in self.model.buffers]
        builder.Finish(aligned.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def add_signature(self, key: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Give the main graph a signature.

        Args:
            key: Its name.
            inputs: The names of the graph's inputs, in their order.
            outputs: The names of the graph's outputs, in their order.
        """
        made = self.schema.SignatureDefT()
        made.signatureKey, made.subgraphIndex = key.encode(), 0
        made.inputs, made.outputs = [], []
        graph = self.model.subgraphs[0]
        for entries, names, indices in ((made.inputs, inputs, graph.inputs), (made.outputs, outputs, graph.outputs)):
            for name, index in zip(names, indices, strict=True):
                entry = self.schema.TensorMapT()
                entry.name, entry.tensorIndex = name.encode(), int(index)
                entries.append(entry)
        self.model.signatureDefs = [*(self.model.signatureDefs or []), made]

    def code(self, name: str, version: int) -> int:
        """Return the index of an operator's code, added where it is new."""
        number = getattr(self.schema.BuiltinOperator, name)
        for index, code in enumerate(self.model.operatorCodes):
            if self.names[_number(code)] == name and code.version == version:
                return index
        code = self.schema.OperatorCodeT()
        # Readers from before 2020 know the one field, which has room for 127 operators.
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

    def buffer(self, data: np.ndarray) -> int:
        """Add a buffer; return its index."""
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def _drop_unused(self) -> None:
        for place, graph in enumerate(self.graphs):
            kept = graph.drop_unused()
            for signature in self.model.signatureDefs or []:
                if signature.subgraphIndex == place:
                    for entry in [*signature.inputs, *signature.outputs]:
                        entry.tensorIndex = kept[entry.tensorIndex]
        tensors = [tensor for graph in self.graphs for tensor in graph.tensors]
        metadata = self.model.metadata or []
        # The first buffer is empty: the one of all tensors that are not constant.
        used = {0, *(tensor.buffer for tensor in tensors), *(entry.buffer for entry in metadata)}
        first = self._equal_buffers(used)
        remaining = sorted(set(first.values()))
        places = {old: new for new, old in enumerate(remaining)}
        self.model.buffers = [self.model.buffers[old] for old in remaining]
        for owner in [*tensors, *metadata]:
            owner.buffer = places[first[owner.buffer]]
        steps = [op for graph in self.graphs for op in graph.operators]
        codes = {old: new for new, old in enumerate(sorted({op.opcodeIndex for op in steps}))}
        self.model.operatorCodes = [self.model.operatorCodes[old] for old in codes]
        for op in steps:
            op.opcodeIndex = codes[op.opcodeIndex]

    def _equal_buffers(self, used: Iterable[int]) -> dict[int, int]:
        """Return {index of a buffer: the first with the same bytes}; empty ones, of no constant, stay apart."""
        known: dict[tuple[int, bytes], int] = {}
        first = {}
        for index in sorted(used):
            data = self.model.buffers[index].data
            empty = data is None or not len(data)
            values = None if empty else np.ascontiguousarray(data, np.uint8)
            key = (-1, b"%d" % index) if values is None else (len(values), hashlib.sha256(values.data).digest())
            first[index] = known.setdefault(key, index)
        return first


class Graph:
    """One graph of a file.

    Args:
        file: The file.
        graph: The schema's object, which is changed in place.
    """

    def __init__(self, file: File, graph: Any):
        self.file, self.graph = file, graph
        graph.operators = list(graph.operators or [])
        graph.inputs, graph.outputs = np.array(graph.inputs), np.array(graph.outputs)  # as read, they can't be written

    @property
    def operators(self) -> list[Any]:
        """The schema's operators, in the order in which they run."""
        return self.graph.operators

    @property
    def tensors(self) -> list[Any]:
        """The schema's tensors."""
        return self.graph.tensors

    def readers(self) -> dict[int, list[tuple[Any, int]]]:
        """Return {index of a tensor: what reads it, each operator with the place among its inputs}, as it is now."""
        found: dict[int, list[tuple[Any, int]]] = {}
        for op in self.operators:
            for place, index in enumerate(map(int, op.inputs)):
                found.setdefault(index, []).append((op, place))
        return found

    def name(self, op: Any) -> str:
        """Return what kind of operator `op` is, as in the schema."""
        code = self.file.model.operatorCodes[op.opcodeIndex]
        name = self.file.names[_number(code)]
        return name if name != "CUSTOM" or code.customCode is None else code.customCode.decode()

    def tensor_name(self, index: int) -> str:
        """Return the name of a tensor."""
        return (self.tensors[index].name or b"").decode()

    def version(self, op: Any) -> int:
        """Return the version of an operator's code."""
        return int(self.file.model.operatorCodes[op.opcodeIndex].version)

    def type(self, index: int) -> str | None:
        """Return the type of a tensor, "FLOAT32"; `None` for one that isn't given (-1)."""
        return self.file.types[self.tensors[index].type] if index >= 0 else None

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of a tensor; a free size counts as 1."""
        shape = self.tensors[index].shape
        return () if shape is None else tuple(int(size) for size in shape)

    def constant(self, index: int) -> np.ndarray | None:
        """Return the values of a float32 constant, or `None`."""
        if self.type(index) != "FLOAT32":
            return None
        data = self.file.model.buffers[self.tensors[index].buffer].data
        if data is None or len(data) == 0:
            return None
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), "<f4").reshape(self.shape(index))

    def add(
        self,
        like: int,
        kind: str,
        *,
        scale: np.ndarray | None = None,
        zero_point: int = 0,
        axis: int = 0,
        data: np.ndarray | None = None,
        suffix: str = "",
    ) -> int:
        """Add a tensor of the shape and name of another; return its index.

        Args:
            like: Index of the other.
            kind: Its type, "INT8".
            scale: One value, or one for each place along `axis`; `None`: not quantized.
            zero_point: The integer that stands for zero.
            axis: The quantized one.
            data: For a constant; of that shape.
            suffix: Put behind the name.
        """
        schema = self.file.schema
        other = self.tensors[like]
        tensor = schema.TensorT()
        tensor.type = getattr(schema.TensorType, kind)
        tensor.name = (other.name or b"") + suffix.encode()
        tensor.shape, tensor.shapeSignature, tensor.hasRank = other.shape, other.shapeSignature, other.hasRank
        tensor.buffer = 0 if data is None else self.file.buffer(data)
        if scale is not None:
            scale = np.atleast_1d(np.asarray(scale, np.float32))
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = scale
            tensor.quantization.zeroPoint = np.full(scale.shape, zero_point, np.int64)
            tensor.quantization.quantizedDimension = axis
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operator(self, name: str, version: int, inputs: Iterable[int], outputs: Iterable[int], like: Any = None) -> Any:
        """Return a new operator, which the caller puts where it runs.

        Args:
            name: As in the schema.
            version: Of its code.
            inputs: Indices of tensors.
            outputs: Indices of tensors.
            like: The operator to take the options from.
        """
        op = copy.copy(like) if like is not None else self.file.schema.OperatorT()
        op.opcodeIndex = self.file.code(name, version)
        op.inputs = np.asarray(list(inputs), np.int32)
        op.outputs = np.asarray(list(outputs), np.int32)
        return op

    def drop_unused(self) -> dict[int, int]:
        """Drop the operators and tensors that the outputs don't need; return {old index of a tensor: new}."""
        needed = {int(index) for index in self.graph.outputs}
        kept = []
        for op in reversed(self.operators):
            # Loops and the like may do what no output shows.
            if any(int(index) in needed for index in op.outputs) or self.name(op) not in ("QUANTIZE", "DEQUANTIZE"):
                kept.append(op)
                needed |= {int(index) for index in op.inputs if index >= 0}
        self.graph.operators = kept[::-1]
        used = needed | {int(index) for index in self.graph.inputs}
        for op in kept:
            for indices in (op.outputs, op.intermediates):
                used |= {int(index) for index in (indices if indices is not None else ()) if index >= 0}
        places = {old: new for new, old in enumerate(sorted(used))}
        self.graph.tensors = [self.tensors[old] for old in sorted(used)]
        for op in kept:
            op.inputs, op.outputs = _moved(op.inputs, places), _moved(op.outputs, places)
            if op.intermediates is not None:
                op.intermediates = _moved(op.intermediates, places)
        self.graph.inputs = _moved(self.graph.inputs, places)
        self.graph.outputs = _moved(self.graph.outputs, places)
        return places


class _Aligned:
    """A buffer that is written where the schema wants it; the generated writer aligns to 4 bytes."""

    def __init__(self, schema: Any, buffer: Any):
        self.schema, self.buffer = schema, buffer

    def Pack(self, builder: Any) -> Any:
        """Write the buffer, as the generated code's method of that name does; return its place."""
        data = self.buffer.data
        if data is None or not len(data):
            return self.buffer.Pack(builder)
        data = np.asarray(data, np.uint8).tobytes()
        builder.StartVector(1, len(data), ALIGNMENT)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        place = builder.EndVector()
        self.schema.BufferStart(builder)
        self.schema.BufferAddData(builder, place)
        return self.schema.BufferEnd(builder)


def _builder(size: int) -> Any:
    """Return a writer that keeps equal vectors and names once.

    Most are zero points: eight bytes for each channel of each kernel, and of its bias, all 0. The format is a graph
    of offsets, so readers can't tell.
    """
    import flatbuffers

    class Sharing(flatbuffers.Builder):
        def __init__(self, size: int):
            super().__init__(size)
            self.places: dict[Any, Any] = {}

        def CreateNumpyVector(self, x: np.ndarray) -> Any:
            key = x.dtype.str, x.tobytes()
            if key not in self.places:
                self.places[key] = super().CreateNumpyVector(x)
            return self.places[key]

        def CreateString(self, s: Any, *how: Any) -> Any:
            if s not in self.places:
                self.places[s] = super().CreateString(s, *how)
            return self.places[s]

    return Sharing(size)


def _moved(indices: Any, places: dict[int, int]) -> np.ndarray:
    return np.asarray([places[int(index)] if index >= 0 else -1 for index in indices], np.int32)


def _number(code: Any) -> int:
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _by_number(enum: Any) -> dict[int, str]:
    return {number: name for name, number in vars(enum).items() if not name.startswith("_")}
