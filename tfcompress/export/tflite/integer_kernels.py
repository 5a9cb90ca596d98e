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

from collections.abc import Collection
from typing import Any

import numpy as np

from tfcompress.export.plan.planned_weights import PlannedWeights
from tfcompress.export.plan.scheme import no_grid
from tfcompress.export.tflite.flatbuffer import File, Graph
from tfcompress.export.tflite.integer_operators import FIXED, RULES, KernelRule, Rule
from tfcompress.export.tflite.required_grids import (
    check_grids,
    drop_guards,
    drop_inserted,
    find_wanted,
    grid_of,
    replace_border,
    split_by_grid,
)
from tfcompress.quantization.encoding import Affine, encode_bias
from tfcompress.quantization.numerics.grid import Grid


def lower(
    file: File, weights: PlannedWeights, inference_io: str = "float32", grids: Collection[Grid] | None = None
) -> None:
    """Let the file's main graph compute in integers, in place.

    Args:
        file: As converted, a QUANTIZE and a DEQUANTIZE where the model has a fake-quantizer.
        weights: Those that are integers.
        inference_io: dtype of the floating inputs and outputs, "float32", "int8" or "uint8".
        grids: Those that are planned; `None`: not known.

    Raises:
        ValueError: An input or output that is to be integer has no fake-quantizer, or a range of 16 bits isn't
            symmetric.
    """
    _Lowering(file, file.graphs[0], weights, inference_io).run(grids)


class _Lowering:
    def __init__(self, file: File, graph: Graph, weights: PlannedWeights, inference_io: str):
        self.file, self.graph, self.inference_io = file, graph, inference_io
        self.bits = 8
        """Of the activations of the operator that is looked at: 8 or 16."""
        self.weights = weights
        self.done: list[Any] = []
        self.grid: dict[int, Grid] = {}
        """Of each tensor that lies on one."""
        self.integer: dict[int, int] = {}
        """The integers of each of them."""
        self.regridded: dict[tuple[int, Grid], int] = {}
        self.stored: dict[tuple[int, bytes], int] = {}
        """The integers of weights, which several operators may share."""
        self.floating: set[int] = set()
        """Those of them whose float values are there too."""

    def run(self, grids: Collection[Grid] | None) -> None:
        drop_inserted(self.file, self.graph)
        if grids is not None:
            check_grids(self.graph, grids)
        self.kept = drop_guards(self.file, self.graph)
        split_by_grid(self.graph)
        self.wanted = find_wanted(self.graph)
        steps = list(self.graph.operators)
        self._open_inputs(steps)
        for op in steps:
            name = self.graph.name(op)
            if name == "QUANTIZE":
                self._quantize(op)
            elif name == "DEQUANTIZE" and int(op.inputs[0]) in self.grid:
                self._alias(int(op.inputs[0]), int(op.outputs[0]))
            elif self.kept.intersection(map(int, op.outputs)) or not self._to_integers(op, name):
                for index in op.inputs:
                    self._float(int(index))
                self.done.append(op)
        self._close_outputs()
        self.graph.graph.operators = self.done

    # Tensors: float, or on a grid; the other form is made where it is needed.

    def _new(self, like: int, grid: Grid, data: np.ndarray | None = None) -> int:
        suffix = "" if data is None else "/integers"
        return self.graph.add(
            like, grid.type, scale=np.float32(grid.scale), zero_point=grid.zero_point, data=data, suffix=suffix
        )

    def _emit(self, name: str, version: int, inputs: list[int], outputs: list[int], like: Any = None) -> None:
        self.done.append(self.graph.operator(name, version, inputs, outputs, like))

    def _place(self, index: int, grid: Grid) -> int:
        """Say that a tensor lies on a grid; return the new tensor for its integers."""
        self.grid[index], self.integer[index] = grid, self._new(index, grid)
        return self.integer[index]

    def _alias(self, source: int, index: int) -> None:
        self.grid[index], self.integer[index] = self.grid[source], self.integer[source]

    def _float(self, index: int) -> None:
        """Let the float values of a tensor be there."""
        if index in self.grid and index not in self.floating:
            version = 2 if self.grid[index].bits == 8 else 3
            self._emit("DEQUANTIZE", version, [self.integer[index]], [index])
            self.floating.add(index)

    def _integers(self, index: int, grid: Grid | None = None, symmetric: bool = False, exact: bool = False) -> int:
        """Return the tensor with the integers of a tensor on a grid, or of a constant; rounded to `grid` if given.

        With `exact` a scale that is another in its last digits is another one, as it is for what joins tensors.
        """
        if index not in self.grid:
            constant = self.graph.constant(index)
            assert constant is not None
            grid = grid or Grid.of_values(constant, self.bits, symmetric or self.bits == 16)
            return self._new(index, grid, grid.quantize(constant))
        if grid is None or grid == self.grid[index] or (not exact and grid.close(self.grid[index])):
            return self.integer[index]
        key = self.integer[index], grid
        if key not in self.regridded:
            source = self.integer[index]
            if grid.bits != self.grid[index].bits:  # no kernel goes from 8 bits to 16, or back
                self._float(index)
                source = index
            self.regridded[key] = self._new(index, grid)
            self._emit("QUANTIZE", 1 if grid.bits == 8 else 2, [source], [self.regridded[key]])
        return self.regridded[key]

    def _quantize(self, op: Any) -> None:
        source, index = int(op.inputs[0]), int(op.outputs[0])
        grid = grid_of(self.graph, index)
        if source in self.grid:
            self.grid[index], self.integer[index] = grid, self._integers(source, grid)
        else:
            self._emit("QUANTIZE", 1 if grid.bits == 8 else 2, [source], [self._place(index, grid)])

    def _ready(self, index: int) -> bool:
        if index in self.grid:
            return self.grid[index].bits == self.bits
        return self.graph.constant(index) is not None

    # The borders.

    def _open_inputs(self, steps: list[Any]) -> None:
        if self.inference_io == "float32":
            self._round_before_moving(steps)
            return
        for place, index in enumerate(map(int, self.graph.graph.inputs)):
            if self.graph.type(index) != "FLOAT32":
                continue
            if index not in self.wanted:
                raise no_grid("input", self._border(index), self.inference_io)
            grid = self.wanted[index]
            integers = self._place(index, grid)
            if self.inference_io == "uint8":
                given = self._unsigned(index, grid)
                self._emit("QUANTIZE", 1, [given], [integers])
                integers = given
            replace_border(self.file, self.graph.graph.inputs, place, integers)

    def _round_before_moving(self, steps: list[Any]) -> None:
        """Quantize the float inputs that are moved first: the converter reshapes before it quantizes."""
        for index in map(int, self.graph.graph.inputs):
            names = {self.graph.name(op) for op in steps if index in op.inputs}
            moved = names and all(name in RULES and RULES[name].kind == "carry" for name in names)
            if self.graph.type(index) != "FLOAT32" or index not in self.wanted or not moved:
                continue
            grid = self.wanted[index]
            self._emit("QUANTIZE", 1 if grid.bits == 8 else 2, [index], [self._place(index, grid)])
            self.floating.add(index)

    def _close_outputs(self) -> None:
        for place, index in enumerate(map(int, self.graph.graph.outputs)):
            if self.inference_io == "float32" or self.graph.type(index) != "FLOAT32":
                self._float(index)
                continue
            if index not in self.grid:
                raise no_grid("output", self._border(index), self.inference_io)
            integers = self.integer[index]
            if self.inference_io == "uint8":
                integers = self._unsigned(index, self.grid[index])
                self._emit("QUANTIZE", 1, [self.integer[index]], [integers])
            replace_border(self.file, self.graph.graph.outputs, place, integers)

    def _border(self, index: int) -> str:
        """Return the model's own name of an input or output."""
        signatures = self.file.model.signatureDefs or []
        entries = [entry for one in signatures if not one.subgraphIndex for entry in (*one.inputs, *one.outputs)]
        names = [entry.name.decode() for entry in entries if entry.tensorIndex == index]
        return names[0] if names else self.graph.tensor_name(index)

    def _unsigned(self, index: int, grid: Grid) -> int:
        return self.graph.add(index, "UINT8", scale=np.float32(grid.scale), zero_point=grid.zero_point + 128)

    # Operators.

    def _to_integers(self, op: Any, name: str) -> bool:
        """Emit the integer form of an operator; return False where there is none, or where it is to stay float."""
        rule = RULES.get(name)
        inputs = [int(index) for index in op.inputs]
        bits = self._bits_of(op, rule) if rule is not None else None
        if rule is None or bits is None or not (rule.int8 if bits == 8 else rule.int16):
            return False
        self.bits = bits
        floats = [index for index in inputs if index >= 0 and self.graph.type(index) == "FLOAT32"]
        if isinstance(rule, KernelRule):
            return self._kernel(op, name, rule, inputs)
        if not floats or not all(map(self._ready, floats)):
            return False
        if rule.kind == "index":
            self._write(op, name, rule, [self._known(index) for index in inputs], [int(i) for i in op.outputs])
            return True
        chosen = self._choose(name, rule, floats, int(op.outputs[0]))
        if chosen is None:
            return False
        source, target = chosen
        symmetric = name == "BATCH_MATMUL"
        exact = rule.kind == "same" and len(floats) > 1
        integers = [self._integers(i, source, symmetric, exact) if i in floats else i for i in inputs]
        outputs = [
            self._place(index, target) if self.graph.type(index) == "FLOAT32" else index
            for index in map(int, op.outputs)
        ]
        if name in ("SQUARE", "NEG"):
            self._multiply(rule, [*integers, self._minus_one(floats[0]) if name == "NEG" else integers[0]], outputs)
        else:
            self._write(op, name, rule, integers, outputs)
        return True

    def _bits_of(self, op: Any, rule: Rule) -> int | None:
        """Return the bits of what an operator reads, and makes if it rounds; `None` if they are several."""
        found = {self.grid[index].bits for index in map(int, op.inputs) if index in self.grid}
        wanted = self.wanted.get(int(op.outputs[0])) if len(op.outputs) else None
        if wanted is not None and (rule.kind not in ("carry", "index") or not found):
            found.add(wanted.bits)
        return found.pop() if len(found) == 1 else None

    def _choose(self, name: str, rule: Rule, floats: list[int], output: int) -> tuple[Grid | None, Grid] | None:
        """Return the grid that the inputs are brought to (`None`: each keeps its own) and the output's."""
        wanted = self.wanted.get(output)
        grids = [self.grid[index] for index in floats if index in self.grid]
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

    def _known(self, index: int) -> int:
        return self.integer.get(index, index)

    def _write(self, op: Any, name: str, rule: Rule, inputs: list[int], outputs: list[int]) -> None:
        version = max(rule.int8 if self.bits == 8 else rule.int16, self.graph.version(op))
        if name == "MUL" and self.bits == 8:
            one, other, product = (float(self.graph.tensors[i].quantization.scale[0]) for i in (*inputs, *outputs))
            version = 3 if one * other >= product else version
        self._emit(name, version, inputs, outputs, op)
        options = self.done[-1].builtinOptions
        if self.bits == 16 and name in ("ADD", "SUB"):
            # The default stands for an older kernel, which takes scales that are powers of two alone.
            options.potScaleInt16 = False

    def _multiply(self, rule: Rule, inputs: list[int], outputs: list[int]) -> None:
        schema = self.file.schema
        self._emit("MUL", rule.int8 if self.bits == 8 else rule.int16, inputs, outputs)
        self.done[-1].builtinOptionsType = schema.BuiltinOptions.MulOptions
        self.done[-1].builtinOptions = schema.MulOptionsT()

    def _minus_one(self, like: int) -> int:
        grid = Grid.of_values(np.array(-1.0), self.bits, self.bits == 16)
        scalar = self._new(like, grid, grid.quantize(np.array(-1.0)))
        tensor = self.graph.tensors[scalar]
        tensor.shape, tensor.shapeSignature = np.zeros(0, np.int32), None
        return scalar

    # Weights and biases.

    def _kernel(self, op: Any, name: str, rule: KernelRule, inputs: list[int]) -> bool:
        data, weights = inputs[rule.data], inputs[rule.weights]
        bias = inputs[rule.bias] if len(inputs) > rule.bias else -1
        values = self.graph.constant(bias) if bias >= 0 else None
        wanted = self.wanted.get(int(op.outputs[0]))
        if data not in self.grid or not self._ready(data) or wanted is None or (bias >= 0 and values is None):
            return False
        if weights in self.grid:  # a product of two activations
            if self.bits == 16 or (values is not None and values.any()):
                return False
            inputs[rule.weights] = self.integer[weights]
            if bias >= 0:
                inputs[rule.bias] = -1
            narrow = False
        else:
            constant = self.graph.constant(weights)
            found = None if constant is None else self.weights.find(constant, (rule.axis,))
            if found is None:
                return False
            narrow = self._store(rule, inputs, found, values, np.float32(self.grid[data].scale))
        inputs[rule.data] = self.integer[data]
        self._write(op, name, rule, inputs, [self._place(int(op.outputs[0]), wanted)])
        if narrow:
            made = self.done[-1]
            made.opcodeIndex = self.file.code(name, rule.narrow_bias)
            made.builtinOptions.quantizedBiasType = self.file.schema.TensorType.INT32
        return True

    def _store(
        self, rule: KernelRule, inputs: list[int], found: Affine, bias: np.ndarray | None, step: np.float32
    ) -> bool:
        """Let `inputs` have the integers of weights and bias; return whether 16 bits activations get a bias of 32."""
        narrow = False
        if bias is not None:
            found, units = encode_bias(bias, step, found, rule.axis)
            # Its convolution is 3 times faster, but sums in 32 bits: only where no input can make that overflow.
            narrow = self.bits == 16 and rule.narrow_bias > 0 and largest_sum(found, units, rule.axis) < 2**31
            wide = self.bits == 16 and not narrow
            inputs[rule.bias] = self.graph.add(
                inputs[rule.bias],
                "INT64" if wide else "INT32",
                scale=units.scale,
                data=units.integers.astype(np.int64 if wide else np.int32),
                suffix="/integers",
            )
        scale = found.scale.reshape(-1)
        key = inputs[rule.weights], scale.tobytes()
        if key not in self.stored:
            self.stored[key] = self.graph.add(
                inputs[rule.weights], "INT8", scale=scale, axis=rule.axis, data=found.integers, suffix="/integers"
            )
        inputs[rule.weights] = self.stored[key]
        return narrow


def largest_sum(weights: Affine, bias: Affine, axis: int) -> float:
    """Return the largest magnitude that a sum over any input of 16 bits can reach, in units of the accumulator.

    Args:
        weights: Of a kernel.
        bias: Its bias.
        axis: The kernel's axis of output channels.

    >>> weights = Affine(np.array([[3, -4]], "int8"), np.ones((1, 1), "float32"))
    >>> largest_sum(weights, Affine(np.array([10]), np.ones(1, "float32")), axis=0)
    229386.0
    """
    others = tuple(place for place in range(weights.integers.ndim) if place != axis)
    sums = np.abs(weights.integers.astype(np.float64)).sum(axis=others)
    return float((sums * 2**15 + np.abs(bias.integers)).max())
