"""Weights as integers in a graph that computes in float."""

from __future__ import annotations

from typing import Any

from tfcompress.export.plan.planned_weights import PlannedWeights
from tfcompress.export.tflite.flatbuffer import File
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.export.tflite.fused_lstms import KERNELS, LSTM
from tfcompress.export.tflite.integer_operators import RULES, KernelRule
from tfcompress.export.tflite.weights.blocks import in_blocks
from tfcompress.export.tflite.weights.constants import StoredWeights
from tfcompress.export.tflite.weights.storage import DYNAMIC, SPEED
from tfcompress.quantization.encoding import Affine


def store_integers(file: File, weights: PlannedWeights, dynamic: bool, prefer: str = SPEED) -> None:
    """Store as integers the planned weights that operators compute with in float, in place; the values stay.

    Where activations are dynamic, the kernels that round their input at run time, and are faster for it, get the
    integers (convolutions and dense layers). All others get them through a DEQUANTIZE, which the runtime does once,
    when the file is loaded.

    Args:
        file: Converted from float; of its graphs the bodies of loops too.
        weights: Those that are integers.
        dynamic: Whether kernels round their input at run time.
        prefer: "speed" or "size", where weights of fewer than 8 bits can't have both.
    """
    for place, graph in enumerate(file.graphs):
        _store(graph, weights, dynamic, StoredWeights(graph, weights, prefer, loop=place > 0))


def _store(graph: Graph, weights: PlannedWeights, dynamic: bool, stored: StoredWeights) -> None:
    steps: list[Any] = []
    behind: dict[int, int] = {}
    for op in graph.operators:
        name = graph.name(op)
        rule = RULES.get(name)
        if name == "GATHER":
            steps += _table(graph, op, weights, stored)
            continue
        for place, axis in _weights_of(graph, op, name):
            index = int(op.inputs[place])
            kernel = rule if dynamic and isinstance(rule, KernelRule) and rule.hybrid else None
            if index not in behind or kernel:
                constant = graph.constant(index)
                found = None if constant is None else weights.find(constant, (axis,))
                if found is None and constant is not None:  # turned on its way: another axis has the scales
                    found, kernel = weights.find(constant), None
                if found is not None and found.block is not None:
                    steps.append(in_blocks(graph, op, place, found, weights))
                    break
                if found is not None and len(found.axis) < 2:
                    if kernel:
                        steps.append(_with_integers(graph, op, kernel, found, stored))
                        break
                    behind[index], unpacking = _unpacked(graph, op, index, found, stored)
                    steps.append(unpacking)
            if index in behind:
                graph.set_input(op, place, behind[index])
        else:
            steps.append(op)
    graph.operators = steps


def _weights_of(graph: Graph, op: Any, name: str) -> list[tuple[int, int]]:
    """Return which inputs of an operator are weights, each with its dimension of channels."""
    rule = RULES.get(name)
    if isinstance(rule, KernelRule):
        return [(rule.weights, rule.axis)]
    if name == LSTM:
        return [(place, 0) for place in KERNELS]
    if name == "BATCH_MATMUL":
        constants = [place for place in (0, 1) if graph.constant(int(op.inputs[place])) is not None]
        if len(constants) == 1:
            rank = len(graph.shape(int(op.inputs[constants[0]])))
            turned = op.builtinOptions.adjY if constants[0] else op.builtinOptions.adjX
            return [(constants[0], rank - 2 if bool(turned) == bool(constants[0]) else rank - 1)]
    return []


def _unpacked(graph: Graph, op: Any, like: int, found: Affine, stored: StoredWeights) -> tuple[int, Any]:
    """Return a tensor of floats for an operator, and what makes it of integers, which are stored for it."""
    axis = found.axis[0] if found.axis else 0
    storage = stored.choose_unpacked(op, found)
    integers = stored.constant(like, axis, found, storage, "DEQUANTIZE")
    floats = graph.add(like, "FLOAT32")
    return floats, graph.operator("DEQUANTIZE", max(storage.version, 5 if found.axis else 2), [integers], [floats])


def _with_integers(graph: Graph, op: Any, rule: KernelRule, found: Affine, stored: StoredWeights) -> Any:
    inputs = [int(index) for index in op.inputs]
    name, storage = stored.choose(op, rule, found, DYNAMIC)
    inputs[rule.weights] = stored.constant(inputs[rule.weights], rule.axis, found, storage, name)
    new = graph.operator(name, max(rule.hybrid, storage.version, graph.version(op)), inputs, op.outputs, op)
    if name == "FULLY_CONNECTED":
        new.builtinOptions.asymmetricQuantizeInputs = True
    return new


def _table(graph: Graph, op: Any, weights: PlannedWeights, stored: StoredWeights) -> list[Any]:
    """Return a look-up in a table of integers, and what makes floats of the few that are found."""
    table = int(op.inputs[0])
    constant = graph.constant(table)
    found = None if constant is None else weights.find(constant)
    if found is None or len(found.axis) > 1:
        return [op]
    if not found.axis:
        integers = graph.add(int(op.outputs[0]), "INT8", scale=found.scale.reshape(-1))
        rows = stored.constant(table, 0, found, stored.choose_unpacked(op, found), "GATHER")
        look = graph.operator("GATHER", max(2, graph.version(op)), [rows, int(op.inputs[1])], [integers], op)
        return [look, graph.operator("DEQUANTIZE", 2, [integers], op.outputs)]
    floats, unpacking = _unpacked(graph, op, table, found, stored)
    graph.set_input(op, 0, floats)
    return [unpacking, op]
