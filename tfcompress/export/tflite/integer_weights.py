"""The integers of weights and biases in a TFLite graph whose activations are integers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfcompress.export.plan.planned_weights import PlannedWeights
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.export.tflite.integer_operators import KernelRule
from tfcompress.export.tflite.weights.constants import StoredWeights
from tfcompress.export.tflite.weights.storage import Storage
from tfcompress.quantization.encoding import Affine


@dataclasses.dataclass(frozen=True)
class IntegerInputs:
    """What a kernel is given.

    Attributes:
        inputs: With integers for weights and bias.
        storage: Of the weights.
        operator: That reads them.
        narrow: Whether activations of 16 bits get a bias of 32.
    """

    inputs: list[int]
    storage: Storage
    operator: str
    narrow: bool


class IntegerWeights:
    """The weights of a graph.

    Args:
        graph: The main graph.
        weights: Those that are integers.
        prefer: "speed" or "size", where both can't be had.
    """

    def __init__(self, graph: Graph, weights: PlannedWeights, prefer: str):
        self._graph, self._weights = graph, weights
        self._stored = StoredWeights(graph, weights, prefer)

    def find(self, index: int, rule: KernelRule) -> Affine | None:
        """Return the integers of a constant, if it is planned."""
        constant = self._graph.constant(index)
        return None if constant is None else self._weights.find(constant, (rule.axis,))

    def store(self, op: Any, rule: KernelRule, found: Affine, scale: float, bits: int) -> IntegerInputs:
        """Store the integers of the weights and of the bias among the inputs of an operator.

        Args:
            op: The operator.
            rule: Which of its inputs are weights and bias.
            found: The integers of the weights.
            scale: Of the activation that is multiplied.
            bits: Of the activation.
        """
        inputs, narrow = list(map(int, op.inputs)), False
        made = list(inputs)
        bias = self._graph.constant(inputs[rule.bias]) if len(inputs) > rule.bias and inputs[rule.bias] >= 0 else None
        if bias is not None:
            found, units = self._weights.with_bias(found, bias, scale, rule.axis)
            # Its convolution is 3 times faster, but sums in 32 bits: only where no input can make that overflow.
            narrow = bits == 16 and rule.narrow_bias > 0 and largest_sum(found, units, rule.axis) < 2**31
            wide = bits == 16 and not narrow
            made[rule.bias] = self._graph.add(
                inputs[rule.bias],
                "INT64" if wide else "INT32",
                scale=units.scale,
                data=units.integers.astype(np.int64 if wide else np.int32),
                suffix="/integers",
            )
        operator, storage = self._stored.choose(op, rule, found, f"INT{bits}")
        made[rule.weights] = self._stored.constant(inputs[rule.weights], rule.axis, found, storage, operator)
        return IntegerInputs(made, storage, operator, narrow)


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
