"""LSTMs of a converted graph as TFLite's fused operator, without a loop.

What the converter doesn't know it takes over as it is: TensorFlow's `BlockLSTMV2` becomes a custom operator, and here
UNIDIRECTIONAL_SEQUENCE_LSTM. That one keeps its states in variable tensors, from run to run of the interpreter. So
they are written before it runs, and the last states are read from there behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfcompress.export.tflite.flatbuffer import File
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.quantization.numerics.grid import Grid
from tfcompress.quantization.weights.gates import GATES
from tfcompress.tracing.fused_lstms import CELL, FUSED, HIDDEN

LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
KERNELS = range(1, 9)
"""Inputs of the operator that are kernels, [units, inputs] of each gate, then recurrent ones, [units, units]."""

BIASES = range(12, 16)
STATES = (18, 19)
"""Its variables: the hidden state and the cell state."""

INPUTS = 24

SEQUENCES, CELL_BEFORE, HIDDEN_BEFORE, KERNEL, BIAS = 1, 2, 3, 4, 8
"""Inputs of TensorFlow's operation."""


def fuse_lstms(file: File) -> None:
    """Let each of TensorFlow's fused LSTMs in a file's main graph be TFLite's, in place."""
    graph = file.graphs[0]
    made: dict[int, list[Any]] = {}
    for op in graph.operators:
        if graph.name(op) == FUSED:
            made |= _fused(graph, op)
    if made:
        graph.operators = [new for op in graph.operators for new in made.get(id(op), [op])]


def cell_limit(op: Any) -> float:
    """Return where one of TensorFlow's fused LSTMs cuts off its cell state, as in integers; 0: nowhere."""
    from flatbuffers import flexbuffers

    options = flexbuffers.GetRoot(bytearray(np.asarray(op.customOptions, np.uint8).tobytes())).AsMap
    return max(0.0, float(options["cell_clip"].AsFloat))


def custom_operators(file: File) -> list[str]:
    """Return the names of a file's custom operators, which no stock interpreter has."""
    builtin = vars(file.schema.BuiltinOperator)
    names = {graph.name(op) for graph in file.graphs for op in graph.operators}
    return sorted(name for name in names if name not in builtin)


def add_lstm(
    graph: Graph, sequences: int, *, kernels: Sequence[int], biases: Sequence[int], states: Sequence[int], output: int
) -> Any:
    """Return a new operator.

    Args:
        graph: The main graph.
        sequences: Tensor of (steps, batch, values).
        kernels: Tensors, as `parts_of` gives them.
        biases: Likewise.
        states: Variables.
        output: Tensor of (steps, batch, units).
    """
    given = [-1] * INPUTS
    given[0] = sequences
    for places, indices in ((KERNELS, kernels), (BIASES, biases), (STATES, states)):
        for place, index in zip(places, indices, strict=True):
            given[place] = index
    made = graph.operator(LSTM, 1, given, [output])
    schema = graph.file.schema
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction, options.timeMajor = schema.ActivationFunctionType.TANH, True
    made.builtinOptionsType, made.builtinOptions = schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions, options
    return made


def parts_of(values: np.ndarray, width: int = 0) -> list[np.ndarray]:
    """Return the parts of a kernel, or of a bias, that the operator has as inputs of their own.

    Args:
        values: (inputs + units, 4 * units), the recurrent kernel below the kernel; or (4 * units,).
        width: How many inputs.
    """
    if values.ndim == 1:
        return [np.ascontiguousarray(part) for part in np.split(values, GATES)]
    rows = np.split(values, [width])
    return [np.ascontiguousarray(part.T) for half in rows for part in np.split(half, GATES, axis=1)]


def variable(graph: Graph, like: int, grid: Grid | None = None) -> int:
    """Return a new tensor that keeps its values, of floats or on a grid."""
    how: dict[str, Any] = {} if grid is None else {"scale": np.float32(grid.scale), "zero_point": grid.zero_point}
    index = graph.add(like, "FLOAT32" if grid is None else grid.type, suffix="/state", **how)
    graph.tensors[index].isVariable = True
    return index


def of_first_value(graph: Graph, sequences: int) -> tuple[list[Any], int]:
    """Return operators that take the first value of sequences, and its tensor, of shape (1, 1).

    What is computed of it can't be computed once and for all: interpreters do that where all is constant, and would
    write a state that begins with constants in the first run alone.
    """
    like = graph.tensors[sequences].quantization
    grid = {} if like is None or like.scale is None else {"scale": like.scale, "zero_point": int(like.zeroPoint[0])}
    made = graph.add(sequences, graph.type(sequences) or "", suffix="/first", shape=(1, 1), **grid)
    places = [
        graph.add(sequences, "INT32", data=np.array([place] * 3, np.int32), suffix="/place", shape=(3,))
        for place in (0, 1, 1)
    ]
    taking = graph.operator(
        "STRIDED_SLICE", 1 if graph.type(sequences) == "FLOAT32" else 2, [sequences, *places], [made]
    )
    schema = graph.file.schema
    taking.builtinOptionsType, taking.builtinOptions = (
        schema.BuiltinOptions.StridedSliceOptions,
        (schema.StridedSliceOptionsT()),
    )
    taking.builtinOptions.shrinkAxisMask = 1
    return [taking], made


def combined(graph: Graph, name: str, version: int, inputs: Sequence[int], output: int) -> Any:
    """Return an ADD or a MUL of two tensors."""
    made = graph.operator(name, version, inputs, [output])
    kind, schema = f"{name.capitalize()}Options", graph.file.schema
    made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
    made.builtinOptions = getattr(schema, f"{kind}T")()
    return made


def copied(graph: Graph, source: int, target: int, sizes: int | None = None) -> Any:
    """Return an operator that copies a tensor to another of its shape.

    Args:
        graph: The main graph.
        source: The tensor.
        target: The other.
        sizes: Tensor of its shape; `None`: a constant.
    """
    shape = np.array(graph.shape(target), np.int32)
    if sizes is None:
        sizes = graph.add(target, "INT32", data=shape, suffix="/shape", shape=shape.shape)
    made = graph.operator("RESHAPE", 1, [source, sizes], [target])
    schema = graph.file.schema
    options = schema.ReshapeOptionsT()
    options.newShape = shape
    made.builtinOptionsType, made.builtinOptions = schema.BuiltinOptions.ReshapeOptions, options
    return made


def _fused(graph: Graph, op: Any) -> dict[int, list[Any]]:
    """Return {id of an operator: what comes in its place}."""
    inputs, outputs = list(map(int, op.inputs)), list(map(int, op.outputs))
    before = [inputs[place] for place in (HIDDEN_BEFORE, CELL_BEFORE)]
    states = [variable(graph, index) for index in before]
    fixed = [graph.constant(index) is not None for index in before]
    resets, zero = of_first_value(graph, inputs[SEQUENCES]) if any(fixed) else ([], -1)
    if resets:
        resets.append(graph.operator("ZEROS_LIKE", 1, [zero], [zero := graph.add(zero, "FLOAT32", suffix="/zero")]))
        resets[-1].builtinOptionsType = graph.file.schema.BuiltinOptions.ZerosLikeOptions
        resets[-1].builtinOptions = graph.file.schema.ZerosLikeOptionsT()
    for source, state, constant in zip(before, states, fixed, strict=True):
        resets.append(combined(graph, "ADD", 1, [source, zero], state) if constant else copied(graph, source, state))
    kernels, unpacking = _stored_parts(graph, inputs[KERNEL], graph.shape(inputs[SEQUENCES])[-1])
    biases, more = _stored_parts(graph, inputs[BIAS])
    made = add_lstm(graph, inputs[SEQUENCES], kernels=kernels, biases=biases, states=states, output=outputs[HIDDEN])
    replaced = {id(op): [*resets, *unpacking, *more, made]}
    for reader in graph.index.readers(outputs[CELL]):  # what takes the last of all cell states
        replaced[id(reader)] = read_behind(graph, states[1], reader, outputs[HIDDEN], int(reader.outputs[0]))
    made.builtinOptions.cellClip = cell_limit(op)
    return replaced


def read_behind(graph: Graph, state: int, taking: Any, hidden: int, target: int) -> list[Any]:
    """Return operators that copy a state, once the LSTM has run.

    Delegates order operators by the tensors that they make and read, and an LSTM only reads its states. So the sizes
    are those of its last output.

    Args:
        graph: The main graph.
        state: Variable.
        taking: The operator that takes the last of the states of all steps.
        hidden: Tensor that the LSTM makes.
        target: Tensor to copy to.
    """
    quantization = graph.tensors[hidden].quantization
    grid = {} if quantization is None or quantization.scale is None else {"scale": quantization.scale}
    last = graph.add(target, graph.type(hidden) or "", suffix="/last", **grid)
    sizes = graph.add(target, "INT32", suffix="/sizes", shape=(len(graph.shape(target)),))
    places = [hidden, *map(int, taking.inputs[1:])]
    slicing = graph.operator(graph.name(taking), max(2, graph.version(taking)), places, [last], taking)
    measuring = graph.operator("SHAPE", 1, [last], [sizes])
    schema = graph.file.schema
    measuring.builtinOptionsType, measuring.builtinOptions = schema.BuiltinOptions.ShapeOptions, schema.ShapeOptionsT()
    measuring.builtinOptions.outType = schema.TensorType.INT32
    return [slicing, measuring, copied(graph, state, target, sizes)]


def _stored_parts(graph: Graph, index: int, width: int = 0) -> tuple[list[int], list[Any]]:
    """Return the parts of a constant as constants, and what unpacks them if they are half floats."""
    producer = graph.index.producer(index)
    source = index if producer is None else int(producer.inputs[0])
    kind = graph.type(source) or ""
    values = graph.constant(source, kind)
    assert values is not None  # they were variables of the layer
    parts = parts_of(values, width)
    stored = [graph.add(index, kind, data=part, shape=part.shape) for part in parts]
    if producer is None:
        return stored, []
    floats = [graph.add(index, "FLOAT32", shape=part.shape) for part in parts]
    made = [graph.operator("DEQUANTIZE", 3, [x], [y], producer) for x, y in zip(stored, floats, strict=True)]
    return floats, made
