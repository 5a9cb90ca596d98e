"""Affine maps that stand by themselves, and what integer runtimes make of them: a depthwise convolution.

Its weight is one integer for each channel, its bias a multiple of input scale * weight scale, as a
kernel's is (`kernel_integers`). What a factor or an offset makes of these can lie outside of what the runtimes hold.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.passthrough import PassThrough
from tfcompress.core.sharding import gathered
from tfcompress.layers.names import name_of
from tfcompress.quantization.arithmetic.base import Arithmetic
from tfcompress.quantization.encoding.bias import bias_scale
from tfcompress.quantization.graph.grids_at_hand import arithmetic_between, has_range, known, whole_numbers
from tfcompress.quantization.graph.operator_integers import INTEGER
from tfcompress.quantization.graph.surroundings import Surroundings, as_one_map, scale_of_layer, surroundings
from tfcompress.quantization.numerics.custom_gradient import with_gradients_of
from tfcompress.quantization.numerics.nudging import nudged_grid
from tfcompress.quantization.numerics.wide import WIDE

Tensor = Any

FLOAT = "float: its scale or offset is too large for an integer kernel between its ranges"
"""What is said of a map that isn't computed in integers."""

MOST_UNITS = 2.0**23
"""Of a bias: above, float32 numbers don't tell one unit from the next."""

LARGEST_FACTOR = 255.0
"""From the accumulator to the output's integers: XNNPACK takes factors below 256."""

SLOW_DEPTHWISE = {"onnx": range(2, 16), "tflite": range(1, 16)}
"""Channels, pixels' among them, of which a depthwise convolution takes longer than a product and a sum.

In ONNX Runtime 20 of the 50 microseconds of a first layer on 32x32 pixels, in TFLite 5 of 49 of a whole ResNet-8.
"""

LARGEST_RATIO = 64
"""Of the product's scale to the sum's: TFLite's addition of integers is wrong where it is some hundreds."""


def product_and_sum(xp: Any, maps: tuple[Any, Any], channels: int | None, scales: tuple[Any, Any], kind: str) -> Any:
    """Return whether a map becomes a product and a sum in a file, and no depthwise convolution; numpy or keras.ops.

    Args:
        xp: numpy or keras.ops.
        maps: The scale and the offset of the map.
        channels: Of the input.
        scales: Of the input's grid, and the least of those behind.
        kind: "tflite" or "onnx".
    """
    scale, offset = maps
    single = math.prod(scale.shape) == math.prod(offset.shape) == 1
    if not single or channels not in SLOW_DEPTHWISE[kind]:
        return False
    number = xp.abs(xp.reshape(scale, ()))
    return xp.logical_and(number > 0, scales[1] * LARGEST_RATIO > number * scales[0])


def _fits(units: Tensor, offset: Tensor, output_scale: Tensor) -> Tensor:
    """Return whether integer runtimes can compute a map; the scale of the grid behind it is 0 if it isn't known."""
    small = ops.logical_or(units == 0, ops.abs(offset) <= MOST_UNITS * units)
    scale = ops.where(output_scale > 0, output_scale, 1e30)
    return ops.all(ops.logical_and(small, units <= LARGEST_FACTOR * scale))


@keras.saving.register_keras_serializable(package="tfcompress")
class QuantizedMap(PassThrough):
    """An affine map, or a hard sigmoid, which in inference computes as the runtimes do.

    In a file it is a depthwise convolution, or a product and a sum.

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
        """Call the layer and, in inference, compute as a runtime does; without a range behind, round the offset."""
        found = None if training else self._parts()

        def plain() -> Any:
            outputs = self.layer(inputs, *args, **self._inner_kwargs(kwargs, training))
            if found is None:
                return outputs
            rounding = ops.cast(self._rounding(*found), outputs.dtype)
            if name_of(self) == "hardsigmoid":
                return ops.clip(inputs / 6.0 + (0.5 + rounding), 0.0, 1.0)
            return outputs + rounding

        if found is None:
            return plain()
        around = found[0]
        arithmetic = arithmetic_between(around)
        if arithmetic is None or self.layer.compute_dtype != "float32" or inputs.dtype != "float32":
            return plain()
        fits = _fits(*self._units(*found))
        return known(around, lambda: with_gradients_of(plain, self._exact(inputs, arithmetic, *found)), plain, fits)

    def rounding(self) -> Tensor | None:
        """Return what rounding changes in the offset, float64; `None` where nothing is known, or there is no range."""
        found = self._parts()
        return None if found is None else self._rounding(*found)

    def _rounding(self, around: Surroundings, own: tuple[Tensor, Tensor], folded: tuple[Tensor, Tensor]) -> Tensor:
        units, total, output_scale = self._units(around, own, folded)
        safe = ops.where(units > 0, units, ops.ones_like(units))
        zero = ops.zeros_like(units)
        change = ops.where(units > 0, ops.round(total / safe) * safe - total, zero)
        change = ops.where(_fits(units, total, output_scale), change, zero)
        assert around.quantizer is not None
        return ops.stop_gradient(ops.where(has_range(around.quantizer), change, zero))

    def fits(self) -> bool:
        """Return whether integer runtimes can compute the map between the ranges around it; if not, it is float."""
        found = self._parts()
        if found is None or found[0].quantizer is None or not found[0].quantizer.calibrated:
            return True
        return bool(gathered(_fits(*self._units(*found))))

    def _parts(self) -> tuple[Surroundings, tuple[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
        """Return what is around, and the scale and offset of the map itself, and of what is folded into it."""
        around, own = surroundings(self), scale_of_layer(self)
        if around is None or own is None or around.quantizer is None:
            return None
        folded = as_one_map(around.affine)
        return None if folded is None else (around, own, folded)

    def _units(
        self, around: Surroundings, own: tuple[Tensor, Tensor], folded: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the unit of the offset, it with what is folded, and the scale behind, before what is folded."""
        assert around.quantizer is not None
        factor = ops.abs(folded[0])
        scale = ops.zeros((), WIDE) if around.behind is None else _double(around.behind.grid_now()[0])
        total = own[1] + folded[1] / ops.where(folded[0] == 0, ops.ones_like(folded[0]), folded[0])
        input_scale = _double(around.quantizer.grid_now()[0])
        units = ops.abs(own[0]) * input_scale / float(2 ** (self.bits - 1) - 1) + ops.zeros_like(total)
        return units, total + ops.zeros_like(units), scale / ops.maximum(factor, 1e-30)

    def _exact(
        self,
        inputs: Tensor,
        arithmetic: Arithmetic,
        around: Surroundings,
        own: tuple[Tensor, Tensor],
        folded: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Return what a runtime computes, before what is folded."""
        quantizer = around.quantizer
        assert quantizer is not None and around.behind is not None
        changed = own[1] + self._rounding(around, own, folded)
        scale, offset = (ops.cast(x, "float32") for x in (own[0] * folded[0], changed * folded[0] + folded[1]))
        (given, zero), (output, _) = (one.grid_now() for one in (quantizer, around.behind))
        x = whole_numbers(inputs, given)
        channels = inputs.shape[-1]
        low, high = (end * given for end in (-zero, float(2**quantizer.spec.bits - 1) - zero))

        def depthwise() -> Tensor:
            zeros = ops.zeros((channels,))
            size, bias = ops.abs(scale) + zeros, offset + zeros
            weights = ops.where(size > 0, size / ops.cast(INTEGER, "float32"), 1.0)
            weights = bias_scale(ops, bias, given, weights, size == 0)
            units = ops.round(_double(bias) / _double(given * weights))
            sums = x * (ops.sign(scale) * INTEGER) + ops.cast(units, "float32")
            return arithmetic.requantized(sums, given, weights, output)

        def by_parts() -> Tensor:
            factor, more = (ops.reshape(part, ()) for part in (scale, offset))
            ends = [_float(_double(end) * ops.reshape(own[0] * folded[0], ())) for end in (low, high)]
            between = nudged_grid(ops, ops.minimum(*ends), ops.maximum(*ends), quantizer.spec.bits, False)[2]
            constant, own_scale = arithmetic.constant(factor)
            product = arithmetic.multiplied(x, constant, (given, own_scale), between)
            summand, its_scale = arithmetic.constant(more)
            total = arithmetic.added(product, summand + ops.zeros_like(product), (between, its_scale), output)
            alone = arithmetic.multiplied(x, constant, (given, own_scale), output)
            return ops.where(more == 0, alone, total)

        parted = product_and_sum(ops, (scale, offset), channels, (given, output), arithmetic.format)
        whole = depthwise() if parted is False else ops.cond(parted, by_parts, depthwise)
        factor = ops.where(folded[0] == 0, ops.ones_like(folded[0]), folded[0])
        made = whole * _float(_double(output) / factor) - _float(folded[1] / factor)
        return ops.clip(made, 0.0, 1.0) if name_of(self) == "hardsigmoid" else made


def warn_of_float(model: keras.Model) -> None:
    """Warn of the maps of a calibrated model that are computed in float."""
    for layer in model.layers:
        if isinstance(layer, QuantizedMap) and not layer.fits():
            warnings.warn(f"{layer.name!r} stays {FLOAT}.", stacklevel=3)


def rounding(operation: Any) -> np.ndarray:
    """Return what rounding changes in the offset of a map, as it is in inference; 0 where nothing does."""
    change = operation.rounding() if isinstance(operation, QuantizedMap) else None
    return np.zeros(()) if change is None else np.asarray(gathered(change), np.float64)


def _double(x: Any) -> Tensor:
    return ops.cast(x, WIDE)


def _float(x: Any) -> Tensor:
    return ops.cast(x, "float32")
