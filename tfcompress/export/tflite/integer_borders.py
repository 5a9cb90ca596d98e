"""The inputs and outputs of a TFLite graph that computes in integers: float, or integers themselves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfcompress.export.plan.scheme import no_grid
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.export.tflite.integer_operators import RULES
from tfcompress.export.tflite.integer_tensors import IntegerTensors
from tfcompress.quantization.numerics.grid import Grid


def open_inputs(tensors: IntegerTensors, wanted: Mapping[int, Grid], inference_io: str) -> None:
    """Let the integers of a graph's inputs be there, before any operator is emitted.

    Args:
        tensors: Of the graph.
        wanted: The grids that tensors are rounded to further on.
        inference_io: dtype of the floating inputs, "float32", "int8" or "uint8".

    Raises:
        ValueError: An input that is to be integers has no grid.
    """
    graph = tensors.graph
    if inference_io == "float32":
        _round_before_moving(tensors, wanted)
        return
    for place, index in enumerate(map(int, graph.graph.inputs)):
        if graph.type(index) != "FLOAT32":
            continue
        if index not in wanted:
            raise no_grid("input", _border(graph, index), inference_io)
        integers = tensors.place(index, wanted[index])
        if inference_io == "uint8":
            given = _unsigned(graph, index, wanted[index])
            tensors.emit("QUANTIZE", 1, [given], [integers])
            integers = given
        graph.set_border(graph.graph.inputs, place, integers)


def close_outputs(tensors: IntegerTensors, inference_io: str) -> None:
    """Let the graph return what it is to return, behind all other operators.

    Args:
        tensors: Of the graph.
        inference_io: dtype of the floating outputs, "float32", "int8" or "uint8".

    Raises:
        ValueError: An output that is to be integers has no grid.
    """
    graph = tensors.graph
    for place, index in enumerate(map(int, graph.graph.outputs)):
        if inference_io == "float32" or graph.type(index) != "FLOAT32":
            tensors.make_float(index)
            continue
        if index not in tensors.grid:
            raise no_grid("output", _border(graph, index), inference_io)
        integers = tensors.stored(index)
        if inference_io == "uint8":
            integers = _unsigned(graph, index, tensors.grid[index])
            tensors.emit("QUANTIZE", 1, [tensors.stored(index)], [integers])
        graph.set_border(graph.graph.outputs, place, integers)


def _round_before_moving(tensors: IntegerTensors, wanted: Mapping[int, Grid]) -> None:
    """Quantize the float inputs that are moved first: the converter reshapes before it quantizes."""
    graph = tensors.graph
    for index in map(int, graph.graph.inputs):
        names = {graph.name(op) for op in graph.index.readers(index)}
        moved = names and all(name in RULES and RULES[name].kind == "carry" for name in names)
        if graph.type(index) == "FLOAT32" and index in wanted and moved:
            tensors.round_input(index, wanted[index])


def _border(graph: Graph, index: int) -> str:
    """Return the model's own name of an input or output."""
    signatures = graph.file.model.signatureDefs or []
    entries = [entry for one in signatures if not one.subgraphIndex for entry in (*one.inputs, *one.outputs)]
    names = [entry.name.decode() for entry in entries if entry.tensorIndex == index]
    return names[0] if names else graph.tensor_name(index)


def _unsigned(graph: Graph, index: int, grid: Grid) -> int:
    return graph.add(index, "UINT8", scale=np.float32(grid.scale), zero_point=grid.zero_point + 128)
