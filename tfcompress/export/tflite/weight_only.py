"""Weights in 8 bits in a graph that computes in float."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.export.scheme import Scheme
from tfcompress.export.tflite.flatbuffer import File, Graph
from tfcompress.export.tflite.integer_operators import RULES, KernelRule
from tfcompress.export.tflite.recovery import Integers, recover

LEAST_VALUES_OF_A_GRID = 4
"""One value alone lies on a grid of its own."""


def store_integers(file: File, scheme: Scheme) -> None:
    """Store as integers the float weights that lie on a grid, in place; the values stay what they were.

    Where activations are dynamic, the kernels that round their input at run time, and are faster for it, get the
    integers (convolutions and dense layers). All others get them through a DEQUANTIZE, which the runtime does once,
    when the file is loaded.

    Args:
        file: Converted from float; of its graphs the bodies of loops too.
        scheme: Says the grids, and whether activations are dynamic.
    """
    for graph in file.graphs:
        _store(graph, scheme)


def _store(graph: Graph, scheme: Scheme) -> None:
    steps: list[Any] = []
    behind: dict[int, int] = {}
    for op in graph.operators:
        name = graph.name(op)
        rule = RULES.get(name)
        if name == "GATHER":
            steps += _table(graph, op, scheme)
            continue
        place, axis = _weights_of(graph, op, name)
        if place is not None:
            index = int(op.inputs[place])
            hybrid = rule.hybrid if isinstance(rule, KernelRule) and scheme.activations == "dynamic" else 0
            if index not in behind or hybrid:
                constant = graph.constant(index)
                found = None
                if constant is not None:
                    found = recover(constant, axis, scheme.weight_bits, scheme.per_channel)
                if found is None and constant is not None and scheme.per_channel:
                    found, hybrid = _along_another(constant, axis, scheme.weight_bits), 0
                if found is not None and hybrid:
                    steps.append(_with_integers(graph, op, place, found, hybrid))
                    continue
                if found is not None:
                    integers = _constant(graph, index, found)
                    behind[index] = graph.add(index, "FLOAT32")
                    steps.append(
                        graph.operator("DEQUANTIZE", 5 if found.per_channel else 2, [integers], [behind[index]])
                    )
            if index in behind:
                op.inputs = np.array(op.inputs)
                op.inputs[place] = behind[index]
        steps.append(op)
    graph.graph.operators = steps


def _along_another(constant: np.ndarray, axis: int, bits: int) -> Integers | None:
    """Return the integers of weights that were turned on their way, so that another axis than `axis` has the grids."""
    others = (other for other in reversed(range(constant.ndim)) if other != axis and constant.shape[other] > 1)
    few = constant.size // LEAST_VALUES_OF_A_GRID
    found = (recover(constant, other, bits) for other in others if constant.shape[other] <= few)
    return next((one for one in found if one is not None), None)


def _weights_of(graph: Graph, op: Any, name: str) -> tuple[int | None, int]:
    """Return which input of an operator is its weights, and their dimension of channels."""
    rule = RULES.get(name)
    if isinstance(rule, KernelRule):
        return rule.weights, rule.axis
    if name == "BATCH_MATMUL":
        constants = [place for place in (0, 1) if graph.constant(int(op.inputs[place])) is not None]
        if len(constants) == 1:
            rank = len(graph.shape(int(op.inputs[constants[0]])))
            turned = op.builtinOptions.adjY if constants[0] else op.builtinOptions.adjX
            return constants[0], rank - 2 if bool(turned) == bool(constants[0]) else rank - 1
    return None, 0


def _constant(graph: Graph, like: int, found: Integers) -> int:
    return graph.add(like, "INT8", scale=found.scale, axis=found.axis, data=found.values, suffix="/integers")


def _with_integers(graph: Graph, op: Any, place: int, found: Integers, version: int) -> Any:
    name = graph.name(op)
    inputs = [int(index) for index in op.inputs]
    inputs[place] = _constant(graph, inputs[place], found)
    new = graph.operator(name, max(version, graph.version(op)), inputs, op.outputs, op)
    if name == "FULLY_CONNECTED":
        new.builtinOptions.asymmetricQuantizeInputs = True
    return new


def _table(graph: Graph, op: Any, scheme: Scheme) -> list[Any]:
    """Return a look-up in a table of integers, and what makes floats of the few that are found."""
    table = int(op.inputs[0])
    constant = graph.constant(table)
    if constant is None:
        return [op]
    found = recover(constant, 0, scheme.weight_bits, per_channel=False)
    if found is not None:
        integers = graph.add(int(op.outputs[0]), "INT8", scale=found.scale)
        stored = _constant(graph, table, found)
        look = graph.operator("GATHER", max(2, graph.version(op)), [stored, int(op.inputs[1])], [integers], op)
        return [look, graph.operator("DEQUANTIZE", 2, [integers], op.outputs)]
    found = recover(constant, constant.ndim - 1, scheme.weight_bits)
    if found is None:
        return [op]
    floats = graph.add(table, "FLOAT32")
    op.inputs = np.asarray([floats, int(op.inputs[1])], np.int32)
    return [graph.operator("DEQUANTIZE", 5, [_constant(graph, table, found)], [floats]), op]
