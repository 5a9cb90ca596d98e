"""The grid that each tensor of a converted graph is rounded to further on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfcompress.export.plan.scheme import HIGHEST, LOWEST
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.export.tflite.integer_operators import RULES
from tfcompress.quantization.numerics.grid import Grid


def drop_inserted(graph: Graph) -> None:
    """Drop the quantizers of means that the converter added by itself, in place.

    It takes the grid of the input for that of the mean, too coarse for what a normalization does with it. They are
    named after the mean, the model's own after their layer.

    Args:
        graph: The main graph, as converted.
    """
    instead: dict[int, int] = {}
    gone = []
    for op in graph.operators:
        name, source = graph.name(op), int(op.inputs[0]) if len(op.inputs) else -1
        if name == "QUANTIZE" and _inserted(graph, graph.index.producer(source), op):
            instead[int(op.outputs[0])] = source
            gone.append(op)
        elif name == "DEQUANTIZE" and source in instead:
            instead[int(op.outputs[0])] = instead[source]
            gone.append(op)
    graph.leave_out(gone, instead)


def drop_guards(graph: Graph) -> set[int]:
    """Drop the maxima and minima that stand before and behind what is to stay float, in place.

    Args:
        graph: The main graph, as converted.

    Returns:
        The tensors that are computed between them.
    """
    instead: dict[int, int] = {}
    between: set[int] = set()
    kept: set[int] = set()
    gone = []
    for op in graph.operators:
        name, inputs, outputs = graph.name(op), list(map(int, op.inputs)), list(map(int, op.outputs))
        limit = {"MAXIMUM": LOWEST, "MINIMUM": HIGHEST}.get(name)
        constants = [graph.constant(index) for index in inputs] if limit is not None else []
        guards = [value is not None and value.size == 1 and value.item() == limit for value in constants]
        if any(guards):
            source = inputs[guards.index(False)]
            instead[outputs[0]] = instead.get(source, source)
            gone.append(op)
            between.update(outputs if name == "MAXIMUM" else ())
        elif not between.isdisjoint(inputs):
            between.update(outputs)
            kept.update(outputs)
    graph.leave_out(gone, instead)
    return kept


def _inserted(graph: Graph, before: Any, op: Any) -> bool:
    if before is None or graph.name(before) != "MEAN":
        return False
    names = [graph.tensor_name(int(made.outputs[0])).split(";")[0] for made in (before, op)]
    return names[0] == names[1]


def split_by_grid(graph: Graph) -> None:
    """Let an operator whose output is rounded to several grids be there once for each of them, in place.

    A layer that is called twice on the same input is one operator for the converter; in the model each call has a
    quantizer of its own, and what is rounded to one of their grids can't be rounded to the other any more.

    Args:
        graph: As converted, a QUANTIZE where the model has a fake-quantizer.
    """
    wanted: dict[int, Grid] = {}  # of outputs that all that reads them rounds alike
    copies: dict[int, list[Any]] = {}

    def grid_for(reader: Any) -> Grid | None:
        name, index = graph.name(reader), int(reader.outputs[0]) if len(reader.outputs) == 1 else -1
        if name == "QUANTIZE":
            return grid_of(graph, index)
        return wanted.get(index) if name in RULES and RULES[name].commutes else None

    for op in reversed(graph.operators):
        if len(op.outputs) != 1 or graph.name(op) in ("QUANTIZE", "DEQUANTIZE"):
            continue
        output = int(op.outputs[0])
        groups: list[tuple[Grid, list[tuple[Any, int]]]] = []
        for reader, place in graph.index.readings(output) if graph.type(output) == "FLOAT32" else []:
            grid = grid_for(reader)
            if grid is None:
                continue
            alike = next((members for known, members in groups if known.close(grid)), None)
            if alike is None:
                groups.append((grid, alike := []))
            alike.append((reader, place))
        if not groups:
            continue
        groups.sort(key=lambda group: group[0].scale)  # what else reads it keeps the finest
        wanted[output] = groups[0][0]
        for grid, members in groups[1:]:
            index = graph.add(output, "FLOAT32", suffix="/again")
            made = graph.operator(graph.name(op), graph.version(op), map(int, op.inputs), [index], op)
            graph.index.add(made, map(int, op.inputs), [index])
            for reader, place in members:
                graph.set_input(reader, place, index)
            wanted[index] = grid
            copies.setdefault(id(op), []).append(made)
    if copies:
        graph.operators = [one for op in graph.operators for one in (op, *copies.get(id(op), ()))]


def find_wanted(graph: Graph) -> dict[int, Grid]:
    """Return the grid that each float tensor is rounded to: at once, or behind what only moves values.

    Args:
        graph: As converted, a QUANTIZE where the model has a fake-quantizer.

    Returns:
        {index of a tensor: grid}, of those whose consumers agree.
    """
    wanted: dict[int, Grid] = {}
    rounded: set[int] = set()  # at once
    disagree = {int(index) for index in graph.graph.outputs}  # what consumes them wants different things

    def agreed(index: int) -> Grid | None:
        return wanted.get(index) if index in rounded or index not in disagree else None

    for op in reversed(graph.operators):
        name = graph.name(op)
        quantizes = name == "QUANTIZE"
        grid = None
        if quantizes:
            grid = grid_of(graph, int(op.outputs[0]))
        elif name in RULES and RULES[name].commutes:
            grid = _common([agreed(index) for index in map(int, op.outputs) if graph.type(index) == "FLOAT32"])
        elif name == "MUL":
            grid = _divided(graph, agreed(int(op.outputs[0])), op)
        for index in map(int, op.inputs):
            if index < 0 or graph.type(index) != "FLOAT32":
                continue
            if grid is None:
                disagree.add(index)
            elif quantizes and (index not in rounded or grid.scale < wanted[index].scale):
                wanted[index] = grid
                rounded.add(index)
            elif not quantizes and not grid.close(wanted.setdefault(index, grid)):
                disagree.add(index)
    return {index: grid for index, grid in wanted.items() if agreed(index)}


def _common(grids: list[Grid | None]) -> Grid | None:
    first = grids[0] if grids else None
    return first if first and all(other is not None and first.close(other) for other in grids) else None


def _divided(graph: Graph, grid: Grid | None, op: Any) -> Grid | None:
    """Return the grid whose values, times the positive number that `op` multiplies by, are those of `grid`."""
    constants = [values for values in map(graph.constant, map(int, op.inputs)) if values is not None]
    if grid is None or len(constants) != 1 or constants[0].size != 1 or not constants[0].item() > 0:
        return None
    return Grid(float(np.float32(grid.scale / constants[0].item())), grid.zero_point, grid.bits)


def take_planned(graph: Graph, grids: Sequence[Grid]) -> None:
    """Let each quantizer have the scale that was planned, in place: the converter's may be another in the last digit.

    Args:
        graph: As converted, a QUANTIZE where the model has a fake-quantizer.
        grids: The planned ones.
    """
    for op in graph.operators:
        if graph.name(op) != "QUANTIZE":
            continue
        made, quantization = grid_of(graph, int(op.outputs[0])), graph.tensors[int(op.outputs[0])].quantization
        alike = [grid.scale for grid in grids if made.close(grid)]
        if alike:
            quantization.scale = np.array([min(alike, key=lambda scale: abs(scale - made.scale))], np.float32)


def grid_of(graph: Graph, index: int) -> Grid:
    """Return the grid of a quantized tensor, as signed integers.

    Raises:
        ValueError: It has 16 bits and isn't symmetric.
    """
    quantization = graph.tensors[index].quantization
    scale, zero_point = float(quantization.scale[0]), int(quantization.zeroPoint[0])
    kind = graph.type(index) or ""
    bits = 16 if "16" in kind else 8
    zero_point -= 2 ** (bits - 1) if kind.startswith("U") else 0
    if bits == 16 and zero_point:
        raise ValueError(
            "Expected activations of 16 bits with a symmetric, narrow range: their kernels know no zero point. "
            f"Received: zero point {zero_point} in {graph.tensor_name(index)!r}. Let the range be (-m, m)."
        )
    return Grid(scale, zero_point, bits)
