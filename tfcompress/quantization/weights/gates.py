"""Kernels of an LSTM on a grid for each of its four gates, as integer kernels have them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.graph import kernel_positions
from tfcompress.quantization.encoding import Affine
from tfcompress.quantization.numerics.tensorflow_kernels import at_hand
from tfcompress.quantization.quantize_config import WeightSpec
from tfcompress.quantization.weights.codebook import codebook_of
from tfcompress.quantization.weights.quantizer import QUANTIZERS
from tfcompress.quantization.weights.uniform import WeightQuantizer

Tensor = Any

GATES = 4
"""Input, forget, cell, output: in this order in Keras' kernels, and among the inputs of TFLite's operator."""


@keras.saving.register_keras_serializable(package="tfcompress")
class GateQuantizer(WeightQuantizer):
    """Puts a kernel whose columns are those of four gates on a uniform grid, of one scale for each gate.

    Its scales are given for each column, as those of other kernels with a scale for each channel are. With
    `granularity="per_tensor"` those of all gates are one.
    """

    def limit(self, value: Tensor) -> Tensor:
        """Return the largest |value| that the grid of each column holds: that of its gate."""
        own = super().limit(value)
        numbers: Any = np if isinstance(own, np.ndarray) else ops
        gates = numbers.max(numbers.reshape(own, (GATES, -1)), axis=1)
        if self.spec.granularity == "per_tensor":
            gates = numbers.repeat(numbers.max(gates, keepdims=True), GATES, axis=0)
        return at_hand(numbers.repeat(gates, own.shape[0] // GATES, axis=0))


def of_gates(encoding: Affine) -> list[Affine]:
    """Return the encodings of the gates' parts of a kernel, each of one scale; itself, if a gate has several.

    >>> whole = Affine.symmetric(np.float32([[1, 2, 4, 8]]), np.float32([1, 2, 4, 8]), bits=8, axis=(1,))
    >>> [part.scale.shape for part in of_gates(whole)]
    [(1, 1), (1, 1), (1, 1), (1, 1)]
    """
    units = encoding.shape[1] // GATES
    parts = [encoding.take(range(gate * units, (gate + 1) * units), axis=1) for gate in range(GATES)]
    if any((part.scale != part.scale.flat[0]).any() for part in parts):
        return [encoding]
    return [Affine(part.integers, part.scale[:, :1], bits=part.bits) for part in parts]


def why_other_scales(layer: Any, spec: WeightSpec) -> str:
    """Return why an LSTM's kernels can't have one scale for each gate; empty if they can.

    Args:
        layer: The layer, or a wrapper around it.
        spec: How its kernels are to be quantized.
    """
    if spec.range in QUANTIZERS:
        return f"its integer kernel has one scale for each gate, found from the weights, not range={spec.range!r}"
    if any(codebook_of(layer, position) is not None for position in kernel_positions(layer)):
        return "its weights share the values of a table, its integer kernel has one scale for each gate"
    return ""


def has_other_scales(operation: Any) -> bool:
    """Return whether a wrapper quantizes weights, but not with one scale for each gate."""
    found = [transform for _, transform in getattr(operation, "transforms", ())]
    quantizers = [transform for transform in found if isinstance(transform, WeightQuantizer)]
    return any(not isinstance(quantizer, GateQuantizer) for quantizer in quantizers)
