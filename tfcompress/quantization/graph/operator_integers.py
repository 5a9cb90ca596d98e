"""What integers runtimes make of those of an operator's inputs, by the name under which the catalogue knows it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

from tfcompress.quantization.arithmetic.base import Arithmetic

Tensor = Any

DEFAULT_SLOPE = 0.2
"""Of Keras' leaky ReLU, where it is the activation of a layer."""

INTEGER = 127.0
"""Which stands for each weight of a depthwise convolution that computes a mean or a map, but for its sign."""


@dataclasses.dataclass(frozen=True)
class Between:
    """What an operator computes between.

    Attributes:
        arithmetic: The runtime's.
        inputs: Whole numbers, counted from zero, float32; or real numbers, where one has no scale.
        scales: Of the inputs; `None`: the grid behind serves for it.
        output: The scale of the output.
    """

    arithmetic: Arithmetic
    inputs: tuple[Tensor, ...]
    scales: tuple[Tensor, ...]
    output: Tensor


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


def _window_mean(layer: Any, between: Between) -> Tensor:
    """Return an average pooling, in files a depthwise convolution whose weights are all the same integer."""
    (x,), (scale,) = between.inputs, between.scales
    count = math.prod(layer.pool_size)
    sums = ops.round(layer(x) * float(count))
    weight = ops.convert_to_tensor(np.float32(np.float32(1.0 / count) / np.float32(INTEGER)))
    return between.arithmetic.requantized(sums * INTEGER, scale, weight, between.output)


def _is_window(layer: Any, between: Between) -> bool:
    strides = layer.strides or layer.pool_size
    return between.arithmetic.format == "tflite" and layer.padding == "valid" and len(set(strides)) == 1


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
    "averagepooling2d": Operator(_window_mean, _is_window),
    "leakyrelu": Operator(_sloped),
    "softmax": Operator(_softmax, _is_along_last_axis),
    **dict.fromkeys(("concatenate", "maximum", "minimum"), Operator(_joined, joins=True)),
}
"""By the name under which the catalogue knows them."""
