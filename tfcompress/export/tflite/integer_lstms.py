"""LSTMs of a converted graph as TFLite's fused operator in integers.

Follows "TensorFlow Lite 8-bit quantization specification" and R. Li and A. Alvarez, "On the quantization of recurrent
neural networks" (2021): int8 kernels of one scale for each gate, biases of scale `input * kernel`, a cell state of 16
bits, a hidden state of 8.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfcompress.export.plan.planned_weights import PlannedWeights
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.export.tflite.fused_lstms import (
    BIAS,
    CELL_BEFORE,
    HIDDEN_BEFORE,
    KERNEL,
    SEQUENCES,
    add_lstm,
    cell_limit,
    combined,
    of_first_value,
    parts_of,
    read_behind,
    variable,
)
from tfcompress.export.tflite.integer_tensors import IntegerTensors
from tfcompress.quantization.encoding import Affine
from tfcompress.quantization.encoding.bias import encode_bias
from tfcompress.quantization.numerics.grid import Grid
from tfcompress.quantization.numerics.lstm_step import CELL_SCALE, GATE_SCALE, HIDDEN_SCALE
from tfcompress.quantization.weights.gates import GATES
from tfcompress.tracing.fused_lstms import CELL, HIDDEN

HIDDEN_GRID, CELL_GRID = Grid(HIDDEN_SCALE, 0, 8), Grid(CELL_SCALE, 0, 16)
_LIMIT = 2**31
_STATES = ((HIDDEN_BEFORE, HIDDEN_GRID), (CELL_BEFORE, CELL_GRID))


def emit_lstm(tensors: IntegerTensors, weights: PlannedWeights, op: Any, done: set[int]) -> bool:
    """Emit one of TensorFlow's fused LSTMs in integers; return False where it is to stay float.

    Args:
        tensors: Of the main graph.
        weights: Those that are integers.
        op: The operator.
        done: Gets the `id` of each operator behind it that isn't to be emitted any more.
    """
    graph = tensors.graph
    inputs, outputs = list(map(int, op.inputs)), list(map(int, op.outputs))
    sequences, hidden = inputs[SEQUENCES], outputs[HIDDEN]
    before = [graph.constant(inputs[place]) for place, _ in _STATES]
    values = graph.constant(inputs[KERNEL]), graph.constant(inputs[BIAS])
    grid = tensors.grid.get(sequences)
    if not cell_limit(op) or grid is None or grid.bits != 8 or values[0] is None or values[1] is None:
        return False
    width = graph.shape(sequences)[-1]
    found = [_on_one_scale(weights.find(part)) for part in parts_of(values[0], width)]
    kernels = [part for part in found if part is not None]
    if len(kernels) < len(found):
        return False
    biases = []
    for gate, part in enumerate(parts_of(values[1])):
        kernels[gate], bias = encode_bias(part, grid.scale, kernels[gate], axis=1)
        _check_sums(graph.tensor_name(hidden), kernels[gate], grid, bias.integers)
        how: dict[str, Any] = {"scale": bias.scale, "data": bias.integers.astype(np.int32), "shape": part.shape}
        biases.append(graph.add(inputs[BIAS], "INT32", **how, suffix="/integers"))
    for recurrent in kernels[GATES:]:
        _check_sums(graph.tensor_name(hidden), recurrent, HIDDEN_GRID)
    stored = [
        graph.add(
            inputs[KERNEL],
            "INT8",
            scale=part.scale.reshape(-1),
            data=part.integers,
            shape=part.shape,
            suffix="/integers",
        )
        for part in kernels
    ]
    states = [variable(graph, inputs[place], one) for place, one in _STATES]
    if all(state is not None and not state.any() for state in before):
        tensors.operators += _zeros(graph, tensors.stored(sequences), states, grid)
    else:
        for (place, _), state in zip(_STATES, states, strict=True):
            tensors.make_float(inputs[place])
            tensors.emit("QUANTIZE", 2, [inputs[place]], [state])
    output = tensors.place(hidden, HIDDEN_GRID)
    made = add_lstm(graph, tensors.stored(sequences), kernels=stored, biases=biases, states=states, output=output)
    # Those of layer normalization, which isn't there, and the hidden state in front of a projection.
    inner = [
        graph.add(hidden, one.type, scale=np.float32(one.scale), shape=(0,)) for one in [CELL_GRID] * 4 + [HIDDEN_GRID]
    ]
    made.intermediates = np.asarray(inner, np.int32)
    tensors.operators.append(made)
    for reader in graph.index.readers(outputs[CELL]):  # what takes the last of all cell states
        target = int(reader.outputs[0])
        last = graph.add(target, "INT16", scale=np.float32(CELL_SCALE), suffix="/integers")
        tensors.operators += read_behind(graph, states[1], reader, output, last)
        tensors.emit("DEQUANTIZE", 3, [last], [target])
        done.add(id(reader))
    return True


def _zeros(graph: Graph, sequences: int, states: list[int], grid: Grid) -> list[Any]:
    """Return operators that write zeros to the hidden state and the cell state, in every run."""
    taking, first = of_first_value(graph, sequences)
    scale = np.float32(HIDDEN_SCALE / grid.scale / 2)  # the product's is half the state's, as old kernels want it
    zero = np.zeros(graph.shape(states[0]), np.int8)
    factor = graph.add(states[0], "INT8", scale=scale, data=zero, suffix="/zeros")
    casting = graph.operator("CAST", 1, [states[0]], [states[1]])
    return [*taking, combined(graph, "MUL", 2, [first, factor], states[0]), casting]


def _check_sums(name: str, kernel: Affine, grid: Grid, bias: Any = 0) -> None:
    """Raise a ValueError where LiteRT's kernel would multiply a gate's sums beyond 32 bits, and let them wrap.

    Args:
        name: Of the LSTM's output.
        kernel: Of a gate: (units, inputs), one scale.
        grid: Of what it is multiplied with.
        bias: Whole numbers, for each unit.
    """
    weights = kernel.integers.astype(np.int64)
    ends = [weights * (end - grid.zero_point) for end in (-(2**7), 2**7 - 1)]
    sums = [extreme(*ends).sum(axis=1) + bias for extreme in (np.minimum, np.maximum)]
    largest, shift = int(np.abs(sums).max()), math.frexp(grid.scale * kernel.scale.item() / GATE_SCALE)[1]
    if largest * 2 ** max(0, shift) >= _LIMIT:
        raise ValueError(
            f"Expected an LSTM whose gates fit into the 32 bits in which LiteRT sums them. Received: {name!r}, with "
            f"sums up to {largest * grid.scale * kernel.scale.item():.3g} before the sigmoid. Put a Normalization in "
            "front of it, so that its inputs are about as large as 1, or leave the layer out of quantization."
        )


def _on_one_scale(found: Affine | None) -> Affine | None:
    """Return an encoding with one scale; `None` if it has several."""
    if found is None or (found.scale != found.scale.flat[0]).any():
        return None
    return Affine(np.ascontiguousarray(found.integers), found.scale.reshape(-1)[:1].reshape(1, 1), bits=found.bits)
