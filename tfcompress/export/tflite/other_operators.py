"""Operators that a runtime hasn't, in a TFLite file, replaced by those that it has and that compute the same."""

from __future__ import annotations

from collections.abc import Collection

from tfcompress.export.tflite.flatbuffer import File
from tfcompress.export.tflite.flatbuffer_graph import Graph

TYPES = ("FLOAT32", "INT8", "INT16")
"""Of what TFLite Micro's kernel selects."""


def with_operators(content: bytes, known: Collection[str]) -> bytes:
    """Return a file that has `SELECT_V2` in place of `SELECT`, where a runtime knows only that.

    Args:
        content: of a file.
        known: the operators that the runtime has.
    """
    if "SELECT" in known or "SELECT_V2" not in known:
        return content
    file = File(content)
    found = [(graph, op) for graph in file.graphs for op in graph.operators if graph.name(op) == "SELECT"]
    changed = [op for graph, op in found if _alike(graph, op.inputs) and graph.type(int(op.outputs[0])) in TYPES]
    for op in changed:
        op.opcodeIndex = file.code("SELECT_V2", 1)
        op.builtinOptionsType = file.schema.BuiltinOptions.SelectV2Options
        op.builtinOptions = file.schema.SelectV2OptionsT()
    return file.to_bytes() if changed else content


def _alike(graph: Graph, inputs: Collection[int]) -> bool:
    """Return whether tensors have one shape: then it is the same whether shapes are made alike."""
    return len({graph.shape(int(index)) for index in inputs}) == 1
