"""LSTMs of a converted graph as TFLite's fused operator, without a loop.

What the converter doesn't know it takes over as it is: TensorFlow's `BlockLSTMV2` becomes a custom operator, and here
UNIDIRECTIONAL_SEQUENCE_LSTM. That one keeps its states in variable tensors, from run to run of the interpreter. So
they are written before it runs, and the last states are read from there behind it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.export.tflite.flatbuffer import File
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.tracing.fused_lstms import CELL, FUSED, HIDDEN

LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
GATES = 4
"""Input, forget, cell, output: in this order in Keras' kernels, and among the operator's inputs."""

KERNELS = range(1, 9)
"""Inputs of the operator that are kernels, [units, inputs] of each gate, then recurrent ones, [units, units]."""

BIASES = range(12, 16)
STATES = (18, 19)
"""Its variables: the hidden state and the cell state."""

INPUTS = 24

_X, _CELL_BEFORE, _HIDDEN_BEFORE, _WEIGHTS, _BIAS = 1, 2, 3, 4, 8
"""Inputs of TensorFlow's operation."""


def fuse_lstms(file: File) -> None:
    """Let each of TensorFlow's fused LSTMs in a file's main graph be TFLite's, in place."""
    graph = file.graphs[0]
    found = [op for op in graph.operators if graph.name(op) == FUSED]
    if not found:
        return
    made: dict[int, list[Any]] = {}
    for op in found:
        made |= _fused(graph, op)
    graph.operators = [new for op in graph.operators for new in made.get(id(op), [op])]


def custom_operators(file: File) -> list[str]:
    """Return the names of a file's custom operators, which no stock interpreter has."""
    builtin = vars(file.schema.BuiltinOperator)
    names = {graph.name(op) for graph in file.graphs for op in graph.operators}
    return sorted(name for name in names if name not in builtin)


def _fused(graph: Graph, op: Any) -> dict[int, list[Any]]:
    """Return {id of an operator: what comes in its place}."""
    inputs, outputs = list(map(int, op.inputs)), list(map(int, op.outputs))
    hidden, cell = outputs[HIDDEN], outputs[CELL]
    states = [_variable(graph, inputs[place]) for place in (_HIDDEN_BEFORE, _CELL_BEFORE)]
    before = [
        _moved(graph, inputs[place], state) for place, state in zip((_HIDDEN_BEFORE, _CELL_BEFORE), states, strict=True)
    ]
    units = graph.shape(inputs[_WEIGHTS])[1] // GATES
    width = graph.shape(inputs[_X])[-1]
    kernels, unpacking = _parts(graph, inputs[_WEIGHTS], width, units)
    biases, more = _parts(graph, inputs[_BIAS], 0, units)
    given = [-1] * INPUTS
    given[0] = inputs[_X]
    for places, indices in ((KERNELS, kernels), (BIASES, biases), (STATES, states)):
        for place, index in zip(places, indices, strict=True):
            given[place] = index
    made = graph.operator(LSTM, 1, given, [hidden])
    schema = graph.file.schema
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction, options.timeMajor = schema.ActivationFunctionType.TANH, True
    made.builtinOptionsType, made.builtinOptions = schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions, options
    replaced = {id(op): [*before, *unpacking, *more, made]}
    for reader in graph.index.readers(cell):  # what takes the last of all cell states
        replaced[id(reader)] = _read_behind(graph, states[1], reader, hidden)
    return replaced


def _variable(graph: Graph, like: int) -> int:
    """Return a new tensor that keeps its values."""
    index = graph.add(like, "FLOAT32", suffix="/state")
    graph.tensors[index].isVariable = True
    return index


def _moved(graph: Graph, source: int, target: int) -> Any:
    """Return an operator that copies a tensor to another of its shape."""
    shape = np.array(graph.shape(target), np.int32)
    return _copy(graph, source, target, graph.add(target, "INT32", data=shape, suffix="/shape", shape=shape.shape))


def _copy(graph: Graph, source: int, target: int, sizes: int) -> Any:
    made = graph.operator("RESHAPE", 1, [source, sizes], [target])
    schema = graph.file.schema
    options = schema.ReshapeOptionsT()
    options.newShape = np.array(graph.shape(target), np.int32)
    made.builtinOptionsType, made.builtinOptions = schema.BuiltinOptions.ReshapeOptions, options
    return made


def _read_behind(graph: Graph, state: int, taking: Any, hidden: int) -> list[Any]:
    """Return operators that copy a state to where another operator puts it, once the LSTM has run.

    Delegates order operators by the tensors that they make and read, and an LSTM only reads its states. So the sizes
    are those of its last output.
    """
    target = int(taking.outputs[0])
    last = graph.add(target, "FLOAT32", suffix="/last")
    sizes = graph.add(target, "INT32", suffix="/sizes", shape=(len(graph.shape(target)),))
    slicing = graph.operator(
        graph.name(taking), graph.version(taking), [hidden, *map(int, taking.inputs[1:])], [last], taking
    )
    measuring = graph.operator("SHAPE", 1, [last], [sizes])
    schema = graph.file.schema
    measuring.builtinOptionsType, measuring.builtinOptions = schema.BuiltinOptions.ShapeOptions, schema.ShapeOptionsT()
    measuring.builtinOptions.outType = schema.TensorType.INT32
    return [slicing, measuring, _copy(graph, state, target, sizes)]


def _parts(graph: Graph, index: int, width: int, units: int) -> tuple[list[int], list[Any]]:
    """Return the gates' parts of a constant, [units, inputs] or [units], and what unpacks them if it is half floats."""
    producer = graph.index.producer(index)
    source = index if producer is None else int(producer.inputs[0])
    kind = graph.type(source) or ""
    values = graph.constant(source, kind)
    assert values is not None  # they were variables of the layer
    if values.ndim == 1:
        parts = np.split(values, GATES)
    else:
        parts = [part.T for rows in np.split(values, [width]) for part in np.split(rows, GATES, axis=1)]
    stored = [graph.add(index, kind, data=np.ascontiguousarray(part), shape=part.shape) for part in parts]
    if producer is None:
        return stored, []
    floats = [graph.add(index, "FLOAT32", shape=part.shape) for part in parts]
    made = [graph.operator("DEQUANTIZE", 3, [x], [y], producer) for x, y in zip(stored, floats, strict=True)]
    return floats, made
