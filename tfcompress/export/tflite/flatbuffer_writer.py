"""The bytes of a TFLite file, of the schema's object form."""

from __future__ import annotations

import copy
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
    aligned = copy.copy(model)
    aligned.buffers = [_Aligned(schema, buffer) for buffer in model.buffers]
    builder.Finish(aligned.Pack(builder), file_identifier=b"TFL3")
    return bytes(memoryview(builder.Bytes)[builder.Head() :])


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
