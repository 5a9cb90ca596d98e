"""From a graph with fake-quantizers to one that computes in integers.

The converter turns each fake-quantizer into a QUANTIZE and a DEQUANTIZE, and leaves everything between in float. Here
each operator whose inputs come from a DEQUANTIZE (or are constants) and whose output goes to a QUANTIZE is replaced by
its integer kernel, of 8 or 16 bits alike. What has no such kernel stays as it is: the runtime dequantizes before it
and quantizes behind it. The converter's own pass does the same for 8 bits, for fewer operators and placements, and
loads no file of 16 bits whose biases were not calibrated by itself.

Follows "TensorFlow Lite 8-bit quantization specification" and its int16 sibling: weights symmetric in 8 bits, biases
of scale `input * weights` in 32 bits (64 with 16 bits activations).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfcompress.export.plan.planned_weights import PlannedWeights
from tfcompress.export.tflite.flatbuffer import File
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.export.tflite.integer_borders import close_outputs, open_inputs
from tfcompress.export.tflite.integer_lstms import emit_lstm
from tfcompress.export.tflite.integer_operators import FIXED, RULES, KernelRule, Rule
from tfcompress.export.tflite.integer_tensors import IntegerTensors
from tfcompress.export.tflite.integer_weights import IntegerInputs, IntegerWeights
from tfcompress.export.tflite.required_grids import (
    drop_guards,
    drop_inserted,
    find_wanted,
    grid_of,
    split_by_grid,
    take_planned,
)
from tfcompress.export.tflite.weights.storage import SPEED
from tfcompress.quantization.numerics.grid import Grid
from tfcompress.tracing.fused_lstms import FUSED


def lower(
    file: File,
    weights: PlannedWeights,
    inference_io: str = "float32",
    prefer: str = SPEED,
    grids: Sequence[Grid] = (),
) -> None:
    """Let the file's main graph compute in integers, in place.

    Args:
        file: As converted, a QUANTIZE and a DEQUANTIZE where the model has a fake-quantizer.
        weights: Those that are integers.
        inference_io: dtype of the floating inputs and outputs, "float32", "int8" or "uint8".
        prefer: "speed" or "size", where weights of fewer than 8 bits can't have both.
        grids: Those of activations, as planned.

    Raises:
        ValueError: An input or output that is to be integer has no fake-quantizer, or a range of 16 bits isn't
            symmetric.
    """
    graph = file.graphs[0]
    take_planned(graph, grids)
    drop_inserted(graph)
    kept = drop_guards(graph)
    split_by_grid(graph)
    wanted = find_wanted(graph)
    tensors = IntegerTensors(graph)
    open_inputs(tensors, wanted, inference_io)
    kernels = _Kernels(tensors, IntegerWeights(graph, weights, prefer), wanted)
    done: set[int] = set()
    for op in graph.operators:
        name = graph.name(op)
        if name == "QUANTIZE":
            index = int(op.outputs[0])
            tensors.quantize(int(op.inputs[0]), index, grid_of(graph, index))
        elif name == "DEQUANTIZE" and int(op.inputs[0]) in tensors.grid:
            tensors.alias(int(op.inputs[0]), int(op.outputs[0]))
        elif id(op) in done or (name == FUSED and emit_lstm(tensors, weights, op, done)):
            continue
        elif not kept.isdisjoint(map(int, op.outputs)) or not kernels.emit(op, name):
            tensors.keep(op)
    close_outputs(tensors, inference_io)
    graph.operators = tensors.operators


class _Kernels:
    """Emits the integer kernels of operators.

    Args:
        tensors: Of the graph.
        weights: Of the graph.
        wanted: The grids that tensors are rounded to further on.
    """

    def __init__(self, tensors: IntegerTensors, weights: IntegerWeights, wanted: dict[int, Grid]):
        self.graph: Graph = tensors.graph
        self.tensors, self.weights, self.wanted = tensors, weights, wanted
        self.bits = 8
        """Of the activations of the operator that is looked at: 8 or 16."""

    def emit(self, op: Any, name: str) -> bool:
        """Emit the integer form of an operator; return False where there is none, or where it is to stay float."""
        rule = RULES.get(name)
        inputs = [int(index) for index in op.inputs]
        bits = self._bits_of(op, rule) if rule is not None else None
        if rule is None or bits is None or not (rule.int8 if bits == 8 else rule.int16):
            return False
        self.bits = bits
        floats = [index for index in inputs if index >= 0 and self.graph.type(index) == "FLOAT32"]
        if isinstance(rule, KernelRule):
            return self._kernel(op, name, rule)
        if not floats or not all(self.tensors.ready(index, bits) for index in floats):
            return False
        if rule.kind == "index":
            self._write(op, name, rule, [self.tensors.stored(index) for index in inputs], [int(i) for i in op.outputs])
            return True
        chosen = self._choose(name, rule, floats, int(op.outputs[0]))
        if chosen is None:
            return False
        source, target = chosen
        symmetric = name == "BATCH_MATMUL"
        exact = rule.kind == "same" and len(floats) > 1
        integers = [self._integers(i, source, symmetric, exact) if i in floats else i for i in inputs]
        outputs = [
            self.tensors.place(index, target) if self.graph.type(index) == "FLOAT32" else index
            for index in map(int, op.outputs)
        ]
        if name in ("SQUARE", "NEG"):
            self._multiply(rule, [*integers, self._minus_one(floats[0]) if name == "NEG" else integers[0]], outputs)
        else:
            self._write(op, name, rule, integers, outputs)
        return True

    def _bits_of(self, op: Any, rule: Rule) -> int | None:
        """Return the bits of what an operator reads, and makes if it rounds; `None` if they are several."""
        grids = self.tensors.grid
        found = {grids[index].bits for index in map(int, op.inputs) if index in grids}
        wanted = self.wanted.get(int(op.outputs[0])) if len(op.outputs) else None
        if wanted is not None and (rule.kind not in ("carry", "index") or not found):
            found.add(wanted.bits)
        return found.pop() if len(found) == 1 else None

    def _choose(self, name: str, rule: Rule, floats: list[int], output: int) -> tuple[Grid | None, Grid] | None:
        """Return the grid that the inputs are brought to (`None`: each keeps its own) and the output's."""
        wanted = self.wanted.get(output)
        grids = [self.tensors.grid[index] for index in floats if index in self.tensors.grid]
        if rule.kind == "free":
            return (None, wanted) if wanted and grids else None
        if rule.kind == "fixed":
            return (None, FIXED[name, self.bits]) if wanted and grids else None
        if rule.kind == "same" and wanted:
            return wanted, wanted
        if not grids:  # a table that is looked up in: rounding it is rounding what is found
            return (wanted, wanted) if wanted and wanted.bits == 8 else None
        if any(not grid.close(grids[0]) for grid in grids):
            return None
        return grids[0], grids[0]

    def _integers(self, index: int, grid: Grid | None, symmetric: bool, exact: bool) -> int:
        """Return the integers of a tensor or of a constant, rounded to `grid` if given."""
        if index in self.tensors.grid:
            return self.tensors.stored(index) if grid is None else self.tensors.on(index, grid, exact)
        constant = self.graph.constant(index)
        assert constant is not None
        grid = grid or Grid.of_values(constant, self.bits, symmetric or self.bits == 16)
        return self.tensors.new(index, grid, grid.quantize(constant))

    def _write(self, op: Any, name: str, rule: Rule, inputs: list[int], outputs: list[int]) -> Any:
        version = max(rule.int8 if self.bits == 8 else rule.int16, self.graph.version(op))
        if name == "MUL" and self.bits == 8:
            one, other, product = (float(self.graph.tensors[i].quantization.scale[0]) for i in (*inputs, *outputs))
            version = 3 if one * other >= product else version
        made = self.tensors.emit(name, version, inputs, outputs, op)
        if self.bits == 16 and name in ("ADD", "SUB"):
            # The default stands for an older kernel, which takes scales that are powers of two alone.
            made.builtinOptions.potScaleInt16 = False
        return made

    def _multiply(self, rule: Rule, inputs: list[int], outputs: list[int]) -> None:
        schema = self.graph.file.schema
        made = self.tensors.emit("MUL", rule.int8 if self.bits == 8 else rule.int16, inputs, outputs)
        made.builtinOptionsType, made.builtinOptions = schema.BuiltinOptions.MulOptions, schema.MulOptionsT()

    def _minus_one(self, like: int) -> int:
        grid = Grid.of_values(np.array(-1.0), self.bits, self.bits == 16)
        scalar = self.tensors.new(like, grid, grid.quantize(np.array(-1.0)))
        tensor = self.graph.tensors[scalar]
        tensor.shape, tensor.shapeSignature = np.zeros(0, np.int32), None
        return scalar

    def _kernel(self, op: Any, name: str, rule: KernelRule) -> bool:
        inputs = list(map(int, op.inputs))
        data, weights = inputs[rule.data], inputs[rule.weights]
        bias = inputs[rule.bias] if len(inputs) > rule.bias else -1
        values = self.graph.constant(bias) if bias >= 0 else None
        wanted = self.wanted.get(int(op.outputs[0]))
        on_grid = data in self.tensors.grid and self.tensors.ready(data, self.bits)
        if not on_grid or wanted is None or (bias >= 0 and values is None):
            return False
        if weights in self.tensors.grid:  # a product of two activations
            if self.bits == 16 or (values is not None and values.any()):
                return False
            inputs[rule.weights] = self.tensors.stored(weights)
            if bias >= 0:
                inputs[rule.bias] = -1
            inputs[rule.data] = self.tensors.stored(data)
            self._write(op, name, rule, inputs, [self.tensors.place(int(op.outputs[0]), wanted)])
            return True
        found = self.weights.find(weights, rule)
        if found is None:
            return False
        given = self.weights.store(op, rule, found, float(np.float32(self.tensors.grid[data].scale)), self.bits)
        given.inputs[rule.data] = self.tensors.stored(data)
        self._with_weights(op, name, rule, given, self.tensors.place(int(op.outputs[0]), wanted))
        return True

    def _with_weights(self, op: Any, name: str, rule: KernelRule, given: IntegerInputs, output: int) -> None:
        """Emit the kernel of an operator with weights, in the version that reads these."""
        schema = self.graph.file.schema
        made = self._write(op, name, rule, given.inputs, [output])
        if given.operator != name:
            options = schema.FullyConnectedOptionsT()
            options.fusedActivationFunction, options.keepNumDims = op.builtinOptions.fusedActivationFunction, True
            made.builtinOptionsType, made.builtinOptions = schema.BuiltinOptions.FullyConnectedOptions, options
        version = given.storage.version
        if given.narrow:
            version = max(version, rule.narrow_bias)
            made.builtinOptions.quantizedBiasType = schema.TensorType.INT32
        if version:
            made.opcodeIndex = self.graph.file.code(given.operator, version)
