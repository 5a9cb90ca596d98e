"""Weights of few values as places in tables, which TFLite Micro's operator TFLM_DECODE looks up when it needs them.

A tensor with one scale gets one table, one with a scale for each channel a table for each: the kernel that reads a
decoded tensor takes the one for the other without a word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfcompress.export.plan.file_operators import Operators
from tfcompress.export.tflite.flatbuffer import File
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.runtime.tflm_runner import DECODE

KERNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""Operators whose second input is their weights."""

MOST_BITS = 7
"""Of a place."""

OVERHEAD = 200
"""Bytes about which a file grows by the tensors, buffers and operator of one table."""

_ONE_TABLE = 15
"""In place of an axis."""


@dataclasses.dataclass(frozen=True)
class TableWeight:
    """How a file stores a weight in tables.

    Attributes:
        values: Of the largest table.
        bits: Of a place.
        per_channel: Whether each channel has its table.
        plain: Bytes without a table.
        nbytes: Bytes with it.
    """

    values: int
    bits: int
    per_channel: bool
    plain: int
    nbytes: int


def as_tables(content: bytes) -> tuple[bytes, list[TableWeight]]:
    """Return a file with its weights of few values in tables, where that takes fewer bytes; and which these are.

    Args:
        content: Of a file with integer weights.
    """
    file = File(content)
    made = [table for graph in file.graphs for table in _in_graph(file, graph)]
    return (file.to_bytes() if made else content), made


def said_of_tables(tables: Sequence[TableWeight]) -> tuple[str, ...]:
    """Return what a reader is told of weights in tables, in a line for each number of bits."""
    said = []
    for bits in sorted({table.bits for table in tables}):
        some = [table for table in tables if table.bits == bits]
        before, after = sum(table.plain for table in some), sum(table.nbytes for table in some)
        count = f"{len(some)} weight{'s' * (len(some) != 1)}"
        said.append(f"{count} in tables of at most {2**bits} values: {after:,} bytes in place of {before:,}.")
    return tuple(said)


def with_tables(found: Operators, tables: Sequence[TableWeight]) -> Operators:
    """Return the operators of a file with those that look weights up."""
    if not tables:
        return found
    return dataclasses.replace(found, kinds={**found.kinds, DECODE: len(tables)})


def _in_graph(file: File, graph: Graph) -> Iterator[TableWeight]:
    operators: list[Any] = []
    parts: dict[int, tuple[int, int]] = {}
    known: dict[int, TableWeight | None] = {}
    for op in graph.operators:
        weight = int(op.inputs[1]) if graph.name(op) in KERNELS else -1
        if weight >= 0 and weight not in known:
            found = _coded(file, graph, weight)
            known[weight] = found[0] if found else None
            if found:
                parts[weight] = _bytes(graph, weight, found[1]), _bytes(graph, weight, found[2])
                yield found[0]
        if weight in parts:
            decoded = graph.add(weight, "INT8")
            graph.tensors[decoded].quantization = graph.tensors[weight].quantization
            graph.set_input(op, 1, decoded)
            operators.append(_decode(file, [*parts[weight]], decoded))
        operators.append(op)
    graph.operators = operators


def _coded(file: File, graph: Graph, index: int) -> tuple[TableWeight, bytes, bytes] | None:
    """Return how a weight is stored in tables, its places and what describes them; `None`: it isn't."""
    tensor = graph.tensors[index]
    data, grid = file.model.buffers[tensor.buffer].data, tensor.quantization
    if graph.type(index) != "INT8" or data is None or grid is None or grid.scale is None:
        return None
    integers = np.asarray(data, np.uint8).view(np.int8).reshape(graph.shape(index))
    axis = int(grid.quantizedDimension) if len(grid.scale) > 1 else None
    if axis not in (None, 0, integers.ndim - 1):
        return None
    rows = [integers] if axis is None else list(np.moveaxis(integers, axis, 0))
    tables = [np.unique(row) for row in rows]
    values = max(map(len, tables))
    bits = max((values - 1).bit_length(), 1)
    if bits > MOST_BITS:
        return None
    places = np.stack([np.searchsorted(table, row) for table, row in zip(tables, rows, strict=True)])
    places = places[0] if axis is None else np.moveaxis(places, 0, axis)
    packed = _packed(places, bits)
    described = bytes([0, 1, 0, 0, 1, (_ONE_TABLE if axis is None else axis) << 4 | bits, values, *[0] * 9])
    described += b"".join(np.pad(table, (0, values - len(table))).tobytes() for table in tables)
    made = TableWeight(values, bits, axis is not None, integers.size, len(packed) + len(described))
    return (made, packed, described) if made.nbytes + OVERHEAD < integers.size else None


def _packed(places: np.ndarray, bits: int) -> bytes:
    """Return places in so many bits each, the highest bit first.

    >>> _packed(np.array([1, 2, 3]), 2).hex()
    '6c'
    """
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((places.reshape(-1, 1) >> shifts) & 1).tobytes()


def _bytes(graph: Graph, like: int, content: bytes) -> int:
    return graph.add(like, "UINT8", data=np.frombuffer(content, np.uint8), shape=(len(content),))


def _decode(file: File, inputs: list[int], output: int) -> Any:
    """Return an operator that looks up what is in tables."""
    codes, schema = file.model.operatorCodes, file.schema
    places = [place for place, code in enumerate(codes) if code.customCode == DECODE.encode()]
    if not places:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode, code.version = DECODE.encode(), 1
        codes.append(code)
        places = [len(codes) - 1]
    op = schema.OperatorT()
    op.opcodeIndex = places[0]
    op.inputs, op.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
    return op
