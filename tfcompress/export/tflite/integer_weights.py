"""The integers of weights and biases in a TFLite graph whose activations are integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfcompress.export.plan.planned_weights import PlannedWeights
from tfcompress.export.tflite.flatbuffer_graph import Graph
from tfcompress.export.tflite.integer_operators import KernelRule
from tfcompress.quantization.encoding import Affine


class IntegerWeights:
    """The weights of a graph; what several operators share is stored once.

    Args:
        graph: The main graph.
        weights: Those that are integers.
    """

    def __init__(self, graph: Graph, weights: PlannedWeights):
        self._graph, self._weights = graph, weights
        self._stored: dict[tuple[int, bytes], int] = {}

    def find(self, index: int, rule: KernelRule) -> Affine | None:
        """Return the integers of a constant, if it is planned."""
        constant = self._graph.constant(index)
        return None if constant is None else self._weights.find(constant, (rule.axis,))

    def store(
        self, inputs: Sequence[int], rule: KernelRule, found: Affine, scale: float, bits: int
    ) -> tuple[list[int], bool]:
        """Store the integers of the weights and of the bias among the inputs of an operator.

        Args:
            inputs: Of the operator.
            rule: Which of them are weights and bias.
            found: The integers of the weights.
            scale: Of the activation that is multiplied.
            bits: Of the activation.

        Returns:
            The inputs with integers for both, and whether 16 bits activations get a bias of 32.
        """
        made, narrow = list(inputs), False
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
        scales = found.scale.reshape(-1)
        key = inputs[rule.weights], scales.tobytes()
        if key not in self._stored:
            self._stored[key] = self._graph.add(
                inputs[rule.weights], "INT8", scale=scales, axis=rule.axis, data=found.integers, suffix="/integers"
            )
        made[rule.weights] = self._stored[key]
        return made, narrow


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
