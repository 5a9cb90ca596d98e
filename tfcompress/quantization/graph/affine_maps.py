"""Affine maps that stand by themselves, and what integer runtimes make of them: a depthwise convolution.

Its weight is one integer for each channel, its bias a multiple of input scale * weight scale, as a
kernel's is (`bias_rounding`). What a factor or an offset makes of these can lie outside of what the runtimes hold.
"""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.keras_private import outbound_nodes, producer
from tfcompress.core.passthrough import PassThrough
from tfcompress.core.sharding import gathered
from tfcompress.graph.rewrite import call_of
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.graph.bias_rounding import scale_of_layer, surroundings, with_maps
from tfcompress.quantization.graph.op_policies import RELU, rule_of

Tensor = Any

FLOAT = "float: its scale or offset is too large for an integer kernel between its ranges"
"""What is said of a map that isn't computed in integers."""

MOST_UNITS = 2.0**23
"""Of a bias: above, float32 numbers don't tell one unit from the next."""

LARGEST_FACTOR = 255.0
"""From the accumulator to the output's integers: XNNPACK takes factors below 256."""


def _fits(units: Tensor, offset: Tensor, output_scale: Tensor) -> Tensor:
    """Return whether integer runtimes can compute a map; the scale of the grid behind it is 0 if it isn't known."""
    small = ops.logical_or(units == 0, ops.abs(offset) <= MOST_UNITS * units)
    scale = ops.where(output_scale > 0, output_scale, 1e30)
    return ops.all(ops.logical_and(small, units <= LARGEST_FACTOR * scale))


@keras.saving.register_keras_serializable(package="tfcompress")
class QuantizedMap(PassThrough):
    """An affine map, or a hard sigmoid, which in inference rounds its offset as the runtimes do.

    Args:
        layer: Rescaling, Normalization, BatchNormalization and the like, or an Activation.
        bits: Of the weights.
    """

    temporary = True
    own_arguments = ("bits",)

    def __init__(self, layer: keras.layers.Layer, bits: int = 8, **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.bits = int(bits)

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Call the layer and, in inference, add what rounding changes in its offset."""
        outputs = self.layer(inputs, *args, **self._inner_kwargs(kwargs, training))
        rounding = None if training else self.rounding()
        if rounding is None:
            return outputs
        rounding = ops.cast(rounding, outputs.dtype)
        if name_of(self) == "hardsigmoid":
            return ops.clip(inputs / 6.0 + (0.5 + rounding), 0.0, 1.0)
        return outputs + rounding

    def rounding(self) -> Tensor | None:
        """Return what rounding changes in the offset, float32; `None` where nothing is known, or there is no range."""
        found = self._parts()
        if found is None:
            return None
        units, total, output_scale, quantizer = found
        safe = ops.where(units > 0, units, 1.0)
        change = ops.where(units > 0, ops.round(total / safe) * safe, total) - total
        change = ops.where(_fits(units, total, output_scale), change, 0.0)
        if quantizer.learns:
            change = ops.where(ops.convert_to_tensor(quantizer.counts.value)[0] > 0, change, 0.0)
        return ops.stop_gradient(change)

    def fits(self) -> bool:
        """Return whether integer runtimes can compute the map between the ranges around it; if not, it is float."""
        found = self._parts()
        if found is None or not found[3].calibrated:
            return True
        return bool(gathered(_fits(*found[:3])))

    def _parts(self) -> tuple[Tensor, Tensor, Tensor, ActivationQuantizer] | None:
        around = surroundings(self)
        own = scale_of_layer(self)
        if around is None or own is None:
            return None
        quantizer, behind, output = around
        folded = with_maps(own[1], behind)
        if folded is None:
            return None
        total, factor = folded
        following = quantizer_behind(output)
        scale = ops.zeros(()) if following is None else following.scale / ops.maximum(ops.abs(factor), 1e-30)
        units = ops.abs(own[0]) * quantizer.scale / float(2 ** (self.bits - 1) - 1) + ops.zeros_like(total)
        return units, total + ops.zeros_like(units), scale, quantizer


def warn_of_float(model: keras.Model) -> None:
    """Warn of the maps of a calibrated model that are computed in float."""
    for layer in model.layers:
        if isinstance(layer, QuantizedMap) and not layer.fits():
            warnings.warn(f"{layer.name!r} stays {FLOAT}.", stacklevel=3)


def rounding(operation: Any) -> np.ndarray:
    """Return what rounding changes in the offset of a map, as it is in inference; 0 where nothing does."""
    change = operation.rounding() if isinstance(operation, QuantizedMap) else None
    return np.zeros(()) if change is None else np.asarray(gathered(change), np.float64)


def quantizer_behind(x: Any) -> ActivationQuantizer | None:
    """Return the quantizer of what reads a tensor, behind a ReLU too; `None` if several things read it."""
    nodes = [node for node in outbound_nodes(producer(x)) if any(t is x for t in node.input_tensors)]
    if len(nodes) != 1:
        return None
    call = call_of(nodes[0])
    if isinstance(call.operation, ActivationQuantizer):
        return call.operation
    return quantizer_behind(call.outputs[0]) if rule_of(call).kind == RELU else None
