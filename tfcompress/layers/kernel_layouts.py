"""Kernels as matrices of (input channels, output channels), whatever the order of their axes is."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
from keras import ops

from tfcompress.core.keras_private import flatten_layers, own_variables
from tfcompress.core.passthrough import innermost
from tfcompress.layers.catalogue import traits_of_base
from tfcompress.layers.names import is_registered
from tfcompress.layers.traits import KernelAxes

Tensor = Any
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which axes of a kernel are input channels and which are output channels.

    Attributes:
        shape: Of the kernel.
        inputs: The axes that are summed over, beside those of the space (height and width).
        outputs: The axes that the layer's output has.
    """

    shape: Shape
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def matrices(self) -> tuple[int, int, int]:
        """How many matrices there are, and their rows (input channels) and columns (output channels)."""
        rows, cols = (math.prod(self.shape[axis] for axis in axes) for axes in (self.inputs, self.outputs))
        return math.prod(self.shape) // (rows * cols), rows, cols

    @property
    def plain(self) -> Shape:
        """The shape as that of a convolution's kernel: the space, the input channels, the output channels."""
        space = [self.shape[axis] for axis in self._rest]
        return (*space, *self.matrices[1:]) if len(self.shape) > 1 else self.shape

    @property
    def _rest(self) -> list[int]:
        return [axis for axis in range(len(self.shape)) if axis not in (*self.inputs, *self.outputs)]

    @property
    def _order(self) -> tuple[int, ...]:
        return (*self._rest, *self.inputs, *self.outputs)

    def unfold(self, x: Tensor) -> Tensor:
        """Return a tensor in the kernel's shape as (matrices, rows, columns)."""
        return ops.reshape(ops.transpose(x, self._order), self.matrices)

    def fold(self, x: Tensor) -> Tensor:
        """Return what `unfold` was called on."""
        order = self._order
        there = ops.reshape(x, [self.shape[axis] for axis in order])
        return ops.transpose(there, [order.index(axis) for axis in range(len(order))])


def layout_of(layer: Any, position: int) -> Layout:
    """Return the layout of a kernel.

    Args:
        layer: A built layer, or a wrapper of this package around one. Of one that holds others, as an attention or a
            TimeDistributed does, the layer counts that the kernel is of.
        position: Of the kernel in the innermost layer's `weights`.

    Example:

    >>> import keras
    >>> layer = keras.layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 8)); layer.build((None, 5, 16))
    >>> layout_of(layer, 0).matrices
    (1, 16, 16)
    """
    axes = axes_of(layer, position)
    return Layout(tuple(innermost(layer).weights[position].shape), axes.inputs, axes.outputs)


def channel_axes(layer: Any, position: int) -> tuple[int, ...]:
    """Return the axes of a kernel along which each channel has a scale of its own.

    Args:
        layer: As for `layout_of`.
        position: As for `layout_of`.

    >>> import keras
    >>> conv = keras.layers.DepthwiseConv2D(3); conv.build((None, 8, 8, 4))
    >>> channel_axes(conv, 0)
    (2, 3)
    """
    scales = axes_of(layer, position).scales
    assert scales is not None
    return tuple(sorted(scales))


def axes_of(layer: Any, position: int) -> KernelAxes:
    """Return the axes of a kernel, counted from the first; arguments as of `layout_of`."""
    owner, weight = owner_of(layer, position), innermost(layer).weights[position]
    axes = kernel_of(owner, weight) or KernelAxes()
    return axes.of_rank(len(weight.shape))


def is_depthwise(layer: Any, position: int) -> bool:
    """Return whether each input channel of a kernel has outputs of its own; arguments as of `layout_of`."""
    axes = axes_of(layer, position)
    return axes.scales is not None and set(axes.inputs) <= set(axes.scales)


def kernel_of(layer: Any, weight: keras.Variable) -> KernelAxes | None:
    """Return what the catalogue says of a weight of a layer; `None` if it isn't one of its kernels."""
    for name, axes in traits_of_base(layer).kernels.items():
        if getattr(layer, name, None) is weight or (weight.name == name and not is_registered(layer)):
            return axes if isinstance(axes, KernelAxes) else axes(layer)
    return None


def owner_of(layer: Any, position: int) -> Any:
    """Return the layer that a weight is of: `layer` itself, or one inside of it.

    Example:

    >>> import keras
    >>> layer = keras.layers.TimeDistributed(keras.layers.Dense(2, name="inner")); layer.build((None, 5, 3))
    >>> owner_of(layer, 0).name
    'inner'
    """
    inner = innermost(layer)
    weight = inner.weights[position]
    for part in flatten_layers(inner):
        if any(own is weight for own in own_variables(part)):
            return part
    return inner
