"""What integers runtimes make of those of an operator's inputs, by the name under which the catalogue knows it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tfcompress.layers.names import name_of
from tfcompress.quantization.arithmetic import fixed_point
from tfcompress.quantization.arithmetic.base import Arithmetic
from tfcompress.quantization.graph.average_windows import (
    ADAPTIVE,
    STRIDED,
    Windows,
    depthwise_window,
    has_one_grid,
)
from tfcompress.quantization.graph.resized_integers import resized
from tfcompress.quantization.numerics.wide import WIDE

Tensor = Any

DEFAULT_SLOPE = 0.2
"""Of Keras' leaky ReLU, where it is the activation of a layer."""

INTEGER = 127.0
"""Which stands for each weight of a depthwise convolution that computes a mean or a map, but for its sign."""

EXACT, LARGEST_PRODUCT = 2.0**24, 255.0**2
"""Whole numbers up to there are float32 numbers; the largest product of two integers of 8 bits."""

LARGEST_WINDOW = 64
"""Places of a window up to which float32 numbers are added one by one, as a runtime adds them."""

MIDDLE = 128.0
"""The zero point, counted from the lowest integer, that is 0 as an integer of 8 bits."""


@dataclasses.dataclass(frozen=True)
class Between:
    """What an operator computes between.

    Attributes:
        arithmetic: The runtime's.
        inputs: Whole numbers, counted from zero, float32; or real numbers, where one has no scale.
        scales: Of the inputs; `None`: the grid behind serves for it.
        output: The scale of the output.
        zeros: The zero points of the inputs, counted from the lowest integer; `None` where there is no scale.
        zero: That of the output.
    """

    arithmetic: Arithmetic
    inputs: tuple[Tensor, ...]
    scales: tuple[Tensor, ...]
    output: Tensor
    zeros: tuple[Tensor, ...]
    zero: Tensor


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator.

    Attributes:
        compute: Gives the output's integers, counted from zero, for the layer and what it computes between.
        takes: Whether that is known for the layer and what it is given.
        joins: Whether its inputs are brought to the grid of the output first, or have it already.
    """

    compute: Callable[[Any, Between], Tensor]
    takes: Callable[[Any, Between], bool] = lambda layer, between: True
    joins: bool = False

    def __call__(self, layer: Any, between: Between) -> Tensor:
        """Return the output's integers."""
        return self.compute(layer, between)


def _of_two(layer: Any, between: Between) -> bool:
    return len(between.inputs) == 2


def _of_one_rank(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """Return tensors as a merging layer aligns them: those of a lower rank get axes behind that of the batch."""
    rank = max(len(x.shape) for x in tensors)
    return [ops.expand_dims(x, tuple(range(1, 1 + rank - len(x.shape)))) if len(x.shape) < rank else x for x in tensors]


def _added(sign: int) -> Callable[[Any, Between], Tensor]:
    def compute(layer: Any, between: Between) -> Tensor:
        (x, y), (first, second) = _of_one_rank(between.inputs), between.scales
        return between.arithmetic.added(x, y, (first, second), between.output, sign)

    return compute


def _multiplied(layer: Any, between: Between) -> Tensor:
    (x, y), (first, second) = _of_one_rank(between.inputs), between.scales
    return between.arithmetic.multiplied(x, y, (first, second), between.output)


def _averaged(layer: Any, between: Between) -> Tensor:
    (x,) = between.inputs
    axes = tuple(range(1, len(x.shape) - 1))
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    sums = ops.sum(x, axis=axes, keepdims=layer.keepdims)
    return between.arithmetic.averaged(sums, count, between.scales[0], between.output)


def _has_sizes(layer: Any, between: Between) -> bool:
    return layer.data_format == "channels_last" and None not in between.inputs[0].shape[1:]


def _joined(layer: Any, between: Between) -> Tensor:
    """Return what a layer makes of inputs that were brought to the output's grid."""
    regridded = between.arithmetic.regridded
    pairs = zip(between.inputs, between.scales, strict=True)
    output = between.output
    return layer([x / output if scale is None else regridded(x, scale, output) for x, scale in pairs])


def _sloped(layer: Any, between: Between) -> Tensor:
    (x,), (scale,) = between.inputs, between.scales
    slope = ops.convert_to_tensor(_slope(layer), "float32")
    return between.arithmetic.sloped(x, slope, scale, between.output)


def _slope(layer: Any) -> float:
    return float(getattr(layer, "negative_slope", DEFAULT_SLOPE))


def _sloped_by_channel(layer: Any, between: Between) -> Tensor:
    """Return a PReLU, for which LiteRT has the kernel of TFLite Micro, whose slopes are integers of 8 bits."""
    (x,), (scale,) = between.inputs, between.scales
    slopes = ops.cast(ops.convert_to_tensor(layer.alpha), "float64")
    low, high = ops.minimum(ops.min(slopes), 0.0), ops.maximum(ops.max(slopes), 0.0)
    unit = ops.cast(ops.where(low == high, 1.0, (high - low) / 255.0), "float32")
    zero = ops.round(-128.0 - low / ops.cast(unit, "float64"))
    whole = ops.clip(ops.round(slopes / ops.cast(unit, "float64")) + zero, -128.0, 127.0) - zero
    products = x * ops.cast(whole, "float32")
    negative = fixed_point.scaled(products, fixed_point.factor_of(scale, unit, between.output))
    one = ops.ones_like(unit)
    return ops.where(x < 0, negative, fixed_point.scaled(x, fixed_point.factor_of(scale, one, between.output)))


def _window_mean(layer: Any, between: Between) -> Tensor:
    """Return an average pooling, in TFLite files a depthwise convolution whose weights are all the same integer.

    Where that isn't one it has the input's grid; what reads it may have another one, as a concatenation has.
    """
    (x,), (scale,) = between.inputs, between.scales
    windows = Windows.of(layer, x.shape)
    found = depthwise_window(layer, x.shape)
    if found is not None:
        weight = ops.convert_to_tensor(np.float32(np.float32(1.0 / math.prod(found[0])) / np.float32(INTEGER)))
        return between.arithmetic.requantized(windows.sums_of_whole(x) * INTEGER, scale, weight, between.output)
    zero = between.zeros[0]
    if name_of(layer) in ADAPTIVE:
        *first, last = windows.spans
        for axis in first:
            x = between.arithmetic.pooled(x, windows.along(axis), (scale, scale), (zero, zero))
        windows = windows.along(last)
    return between.arithmetic.pooled(x, windows, (scale, between.output), (zero, between.zero))


def _is_window(layer: Any, between: Between) -> bool:
    shape = between.inputs[0].shape
    if layer.data_format != "channels_last" or None in shape[1:]:
        return False
    if _is_tflite(layer, between):
        return True
    return has_one_grid(layer, shape) and Windows.of(layer, shape).most <= LARGEST_WINDOW


def _is_tflite(layer: Any, between: Between) -> bool:
    return between.arithmetic.format == "tflite"


def _moved(layer: Any, between: Between) -> Tensor:
    """Return what chooses among values, on a grid of its own."""
    (x,), (scale,) = between.inputs, between.scales
    return between.arithmetic.regridded(layer(x), scale, between.output)


def _resized(layer: Any, between: Between) -> Tensor:
    (x,), (scale,) = between.inputs, between.scales
    height, width = layer.compute_output_shape(x.shape)[1:3]
    return between.arithmetic.regridded(resized(x, (height, width), between.zeros[0]), scale, between.output)


def _is_resized_by_reference(layer: Any, between: Between) -> bool:
    cut = any(getattr(layer, how, False) for how in ("crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"))
    known = len(between.inputs[0].shape) == 4 and None not in between.inputs[0].shape[1:]
    last = layer.data_format == "channels_last"
    return between.arithmetic.name == "reference" and layer.interpolation == "bilinear" and known and last and not cut


def _product(layer: Any, between: Between) -> Tensor:
    (x, y), scales = between.inputs, (between.scales[0], between.scales[1])
    large = x.shape[-1] is None or x.shape[-1] * LARGEST_PRODUCT >= EXACT
    sums = ops.matmul(*(ops.cast(part, WIDE) for part in (x, y))) if large else ops.matmul(x, y)
    return between.arithmetic.product(sums, scales, between.output, between.zeros[1] == MIDDLE)


def _cut_off(layer: Any, between: Between) -> Tensor:
    """Return a ReLU by itself, in files another grid, which begins at 0."""
    (x,), (scale,) = between.inputs, between.scales
    whole = ops.maximum(between.arithmetic.regridded(x, scale, between.output), 0.0)
    six = name_of(layer) == "relu6" or getattr(layer, "max_value", None) == 6
    return ops.minimum(whole, ops.round(6.0 / between.output)) if six else whole


def _is_plain(layer: Any, between: Between) -> bool:
    return getattr(layer, "max_value", None) in (None, 6)


def _softmax(layer: Any, between: Between) -> Tensor:
    (x,), (scale,) = between.inputs, between.scales
    return between.arithmetic.softmax(x, scale)


def _is_along_last_axis(layer: Any, between: Between) -> bool:
    (x,), axis = between.inputs, getattr(layer, "axis", -1)
    return axis in (-1, [-1], (-1,), len(x.shape) - 1) and x.shape[-1] is not None


OPERATORS: dict[str, Operator] = {
    "add": Operator(_added(1), _of_two),
    "subtract": Operator(_added(-1), _of_two),
    "multiply": Operator(_multiplied, _of_two),
    **dict.fromkeys(("globalaveragepooling1d", "globalaveragepooling2d"), Operator(_averaged, _has_sizes)),
    **dict.fromkeys((*STRIDED, *ADAPTIVE), Operator(_window_mean, _is_window)),
    **dict.fromkeys(("adaptivemaxpooling1d", "adaptivemaxpooling2d"), Operator(_moved)),
    "leakyrelu": Operator(_sloped),
    **dict.fromkeys(("upsampling2d", "resizing"), Operator(_resized, _is_resized_by_reference)),
    "prelu": Operator(_sloped_by_channel, _is_tflite),
    **dict.fromkeys(("relu", "relu6"), Operator(_cut_off, _is_plain)),
    "matmul": Operator(_product, _of_two),
    "softmax": Operator(_softmax, _is_along_last_axis),
    **dict.fromkeys(("concatenate", "maximum", "minimum"), Operator(_joined, joins=True)),
}
"""By the name under which the catalogue knows them."""
