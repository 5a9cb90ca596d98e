"""A TFLite file taken apart, changed and put together again: the schema's object form with names for numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import weakref
from collections.abc import Iterable, Sequence

import numpy as np

from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.export.tflite.flatbuffer_tables import FileTables
from tfcompress.export.tflite.flatbuffer_writer import packed


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


class File(FileTables):
    """A file in object form.

    Args:
        content: Its bytes; they aren't changed.
    """

    def __init__(self, content: bytes):
        super().__init__(content)
        # They don't keep the file: its bytes would stay until cycles of references are looked for.
        self.graphs = [Graph(weakref.proxy(self), graph) for graph in self.model.subgraphs]

    def to_bytes(self) -> bytes:
        """Return the file's bytes, without what no operator uses any more."""
        self._drop_unused()
        self.detach()
        return packed(self.model, self.schema)

    def drop_remarks(self) -> None:
        """Drop what the converter says of its own work, which isn't the file's any more; no runtime reads it."""
        self.model.description = self.model.metadata = self.model.metadataBuffer = None

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
