"""The bytes of a TFLite file, of the schema's object form: what is equal is written once, what is empty not at all."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from typing import Any

import numpy as np

ALIGNMENT = 16
"""Bytes: where the schema wants the data of a buffer to start (`force_align`)."""

ROOM = 1 << 16
"""Bytes for all but buffers and scales: the writer doubles its own buffer where it gets too small."""

SCALE_BYTES = 12
"""Of a scale, float32, and its zero point, int64."""


def packed(model: Any, schema: Any) -> bytes:
    """Return the bytes of a file.

    Args:
        model: The schema's object; it isn't changed.
        schema: The generated module.
    """
    values = sum(len(buffer.data) + ALIGNMENT for buffer in model.buffers if buffer.data is not None)
    grids = [tensor.quantization for graph in model.subgraphs for tensor in graph.tensors if tensor.quantization]
    vectors = sum(SCALE_BYTES * len(grid.scale) for grid in grids if grid.scale is not None)
    builder = _builder(values + vectors + ROOM)
    lean, tables = copy.copy(model), _Tables()
    lean.buffers = [_Aligned(schema, buffer) for buffer in model.buffers]
    lean.subgraphs = [tables.graph(graph) for graph in model.subgraphs]
    builder.Finish(lean.Pack(builder), file_identifier=b"TFL3")
    return bytes(memoryview(builder.Bytes)[builder.Head() :])


class _Once:
    """A table that is written once, however many others point to it."""

    def __init__(self, table: Any):
        self.table = table
        self.place: Any = None

    def Pack(self, builder: Any) -> Any:
        """Write the table, as the generated code's method of that name does; return its place."""
        if self.place is None:
            self.place = self.table.Pack(builder)
        return self.place


class _Tables:
    """Copies of graphs without what says nothing, in which equal options and quantization parameters are one table."""

    def __init__(self) -> None:
        self._known: dict[Hashable, _Once] = {}

    def graph(self, graph: Any) -> Any:
        """Return a copy of a graph, for the writer."""
        made = copy.copy(graph)
        made.tensors = [self._tensor(tensor) for tensor in graph.tensors]
        made.operators = [self._operator(op) for op in graph.operators]
        return made

    def _tensor(self, tensor: Any) -> Any:
        made = copy.copy(tensor)
        if _filled(tensor.shape):  # whoever sees a shape knows that there is a rank
            made.hasRank = False
        if _values(tensor.shapeSignature) in (b"", _values(tensor.shape)):
            made.shapeSignature = None
        if tensor.quantization is not None:
            grid = copy.copy(tensor.quantization)
            grid.min = grid.max = None  # notes of a converter
            made.quantization = self._once(grid) if _filled(grid.scale) or grid.details is not None else None
        return made

    def _operator(self, op: Any) -> Any:
        made = copy.copy(op)
        for name in ("mutatingVariableInputs", "intermediates", "customOptions"):
            if not _filled(getattr(op, name)):
                setattr(made, name, None)
        if op.builtinOptions is not None:
            made.builtinOptions = self._once(op.builtinOptions)
        return made

    def _once(self, table: Any) -> Any:
        key = _key(table)
        return table if key is None else self._known.setdefault(key, _Once(table))


def _key(table: Any) -> Hashable | None:
    """Return what equal tables have in common; `None` for one that points to others."""
    found: list[Any] = [type(table)]
    for name, value in vars(table).items():
        if isinstance(value, np.ndarray | list):
            found.append((name, str(np.asarray(value).dtype), _values(value)))
        elif value is None or isinstance(value, bool | int | float | bytes | str):
            found.append((name, value))
        else:
            return None
    return tuple(found)


def _filled(vector: Any) -> bool:
    return vector is not None and len(vector) > 0


def _values(vector: Any) -> bytes:
    return b"" if vector is None else np.asarray(vector).tobytes()


class _Aligned:
    """A buffer that is written where the schema wants it; the generated writer aligns to 4 bytes."""

    def __init__(self, schema: Any, buffer: Any):
        self.schema, self.buffer = schema, buffer

    def Pack(self, builder: Any) -> Any:
        """Write the buffer, as the generated code's method of that name does; return its place."""
        data = self.buffer.data
        if data is None or not len(data):
            return self.buffer.Pack(builder)
        data = np.ascontiguousarray(data, np.uint8).data
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
