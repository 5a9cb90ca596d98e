"""Which value of a layer's weights belongs to which channel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers as L

from tfcompress.core.passthrough import innermost
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.einsum_equations import equation_of


@dataclasses.dataclass(frozen=True, eq=False)
class Channels:
    """Which value of a layer's weights belongs to which channel, where channels are the last axis.

    Attributes:
        outputs: Name of the weight that makes the output channels: "kernel" or "pointwise_kernel".
        output_index: For each value of that weight (int, broadcast to its shape) its output channel.
        inputs: Name of the weight that takes the input channels in; `None` if none has them as an axis.
        input_index: For each value of that weight (int, broadcast to its shape) its input channel.
    """

    outputs: str
    output_index: np.ndarray
    inputs: str | None
    input_index: np.ndarray

    @property
    def output_count(self) -> int:
        """Number of output channels."""
        return int(self.output_index.max()) + 1

    @property
    def input_count(self) -> int:
        """Number of input channels; 0 if no weight has them as an axis."""
        return int(self.input_index.max(initial=-1)) + 1


def channels_of(layer: L.Layer) -> Channels | None:
    """Return which weights of a built layer make which channel; `None` if it is no linear map with channels last.

    Known are Dense, EinsumDense, all convolutions (plain, grouped, depthwise, separable, transposed), and what is
    registered to be like one.

    Args:
        layer: A built layer, or a wrapper of this package around one.

    Example:

    >>> import keras
    >>> layer = keras.layers.DepthwiseConv2D(3, depth_multiplier=2)
    >>> layer.build((None, 8, 8, 2))
    >>> channels_of(layer).output_index.tolist()
    [[0, 1], [2, 3]]
    """
    layer = innermost(layer)
    if not isinstance(layer, L.Layer) or getattr(layer, "data_format", None) == "channels_first":
        return None
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return None  # the kernel isn't what the layer multiplies by
    find = _BY_RULE.get(traits_of(layer).channels)
    return find(layer) if find is not None and takes_bias(layer) else None


def takes_bias(layer: Any) -> bool:
    """Return whether a layer has a bias, or can be made again with one: a registered one may have no way to."""
    return layer.bias is not None or any(hasattr(layer, name) for name in ("use_bias", "bias_axes"))


def _channels_of_conv(layer: Any) -> Channels:
    inputs, outputs = layer.kernel.shape[-2:]
    groups = getattr(layer, "groups", 1)
    first = np.arange(outputs) // (outputs // groups) * inputs if groups > 1 else np.zeros(1, int)
    return Channels("kernel", np.arange(outputs), "kernel", np.arange(inputs)[:, None] + first)


def _channels_of_transpose(layer: Any) -> Channels:
    outputs, inputs = layer.kernel.shape[-2:]
    return Channels("kernel", np.arange(outputs)[:, None], "kernel", np.arange(inputs)[None])


def _channels_of_depthwise(layer: Any) -> Channels:
    inputs, multiplier = layer.kernel.shape[-2:]
    index = np.arange(inputs * multiplier).reshape(inputs, multiplier)
    return Channels("kernel", index, "kernel", np.arange(inputs)[:, None])


def _channels_of_separable(layer: Any) -> Channels:
    inputs, outputs = layer.depthwise_kernel.shape[-2], layer.pointwise_kernel.shape[-1]
    return Channels("pointwise_kernel", np.arange(outputs), "depthwise_kernel", np.arange(inputs)[:, None])


def _channels_of_einsum(layer: Any) -> Channels | None:
    letters = equation_of(layer)
    if letters is None or letters.output[-1] not in letters.kernel:
        return None
    kernel = letters.kernel

    def index(letter: str) -> np.ndarray:
        axis = kernel.index(letter)
        return np.arange(layer.kernel.shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(kernel))])

    takes = letters.inputs[-1] in kernel
    return Channels(
        "kernel",
        index(letters.output[-1]),
        "kernel" if takes else None,
        index(letters.inputs[-1]) if takes else np.zeros(0, int),
    )


_BY_RULE: dict[str, Callable[[Any], Channels | None]] = {
    "dense": _channels_of_conv,
    "convolution": _channels_of_conv,
    "transposed": _channels_of_transpose,
    "depthwise": _channels_of_depthwise,
    "separable": _channels_of_separable,
    "einsum_dense": _channels_of_einsum,
}


def is_linear(layer: L.Layer) -> bool:
    """Return whether a layer has no activation behind its kernel and bias."""
    return getattr(innermost(layer), "activation", None) in (None, keras.activations.linear)
