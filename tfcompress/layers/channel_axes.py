"""Which value of a layer's weights belongs to which channel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import layers as L

from tfcompress.core.passthrough import innermost


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

    Known are Dense, EinsumDense, and all convolutions: plain, grouped, depthwise, separable, transposed.

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
    if not type(layer).call.__module__.startswith("keras.") or getattr(layer, "data_format", None) == "channels_first":
        return None
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return None  # the kernel isn't what the layer multiplies by
    return next((find(layer) for classes, find in _KNOWN if isinstance(layer, classes)), None)


def _channels_of_conv(layer: L.Layer) -> Channels:
    inputs, outputs = layer.kernel.shape[-2:]
    groups = getattr(layer, "groups", 1)
    first = np.arange(outputs) // (outputs // groups) * inputs if groups > 1 else np.zeros(1, int)
    return Channels("kernel", np.arange(outputs), "kernel", np.arange(inputs)[:, None] + first)


def _channels_of_transpose(layer: L.Layer) -> Channels:
    outputs, inputs = layer.kernel.shape[-2:]
    return Channels("kernel", np.arange(outputs)[:, None], "kernel", np.arange(inputs)[None])


def _channels_of_depthwise(layer: L.Layer) -> Channels:
    inputs, multiplier = layer.kernel.shape[-2:]
    index = np.arange(inputs * multiplier).reshape(inputs, multiplier)
    return Channels("kernel", index, "kernel", np.arange(inputs)[:, None])


def _channels_of_separable(layer: L.Layer) -> Channels:
    inputs, outputs = layer.depthwise_kernel.shape[-2], layer.pointwise_kernel.shape[-1]
    return Channels("pointwise_kernel", np.arange(outputs), "depthwise_kernel", np.arange(inputs)[:, None])


def _channels_of_einsum(layer: L.EinsumDense) -> Channels | None:
    terms, outputs = layer.equation.replace(" ", "").split("->")
    inputs, kernel = terms.split(",")

    def index(label: str) -> np.ndarray:
        axis = kernel.index(label)
        return np.arange(layer.kernel.shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(kernel))])

    if kernel.count(outputs[-1]) != 1 or "." in kernel:
        return None
    takes = kernel.count(inputs[-1]) == 1
    return Channels(
        "kernel",
        index(outputs[-1]),
        "kernel" if takes else None,
        index(inputs[-1]) if takes else np.zeros(0, int),
    )


# The first that fits counts: some are subclasses of others.
_KNOWN: list[tuple[tuple[type, ...], Callable[[L.Layer], Channels | None]]] = [
    ((L.EinsumDense,), _channels_of_einsum),
    ((L.SeparableConv1D, L.SeparableConv2D), _channels_of_separable),
    ((L.DepthwiseConv1D, L.DepthwiseConv2D), _channels_of_depthwise),
    ((L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose), _channels_of_transpose),
    ((L.Dense, L.Conv1D, L.Conv2D, L.Conv3D), _channels_of_conv),
]


def is_linear(layer: L.Layer) -> bool:
    """Return whether a layer has no activation behind its kernel and bias."""
    return getattr(innermost(layer), "activation", None) in (None, keras.activations.linear)
