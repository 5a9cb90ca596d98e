"""Weights of which each block has a scale of its own: which can be in blocks, and how they are cut into them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops
from keras.layers import Layer

from tfcompress.core.passthrough import innermost
from tfcompress.layers.einsum_equations import matrix_form
from tfcompress.layers.kernel_layouts import owner_of
from tfcompress.layers.names import name_of

Tensor = Any


class Blocks:
    """How many places along each axis of a weight share a scale.

    Args:
        sizes: One number for each axis, which divides its length.

    Example:

    >>> blocks = Blocks((2, 1))
    >>> blocks.unfold(np.arange(8).reshape(4, 2)).shape, blocks.axis, blocks.count((4, 2))
    ((2, 2, 2, 1), (0, 2), (2, 2))
    """

    def __init__(self, sizes: Sequence[int]):
        self.sizes = tuple(int(size) for size in sizes)

    @property
    def axis(self) -> tuple[int, ...]:
        """The axes of what `unfold` gives along which scales differ."""
        return tuple(range(0, 2 * len(self.sizes), 2))

    def count(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return how many scales a weight of a shape has along each axis."""
        return tuple(whole // size for whole, size in zip(shape, self.sizes, strict=True))

    def unfold(self, x: Tensor) -> Tensor:
        """Return a weight with two axes for each of its own: the blocks, and the places in a block."""
        pairs = zip(self.count(x.shape), self.sizes, strict=True)
        shape = [size for pair in pairs for size in pair]
        return x.reshape(shape) if isinstance(x, np.ndarray) else ops.reshape(x, shape)

    def fold(self, x: Tensor) -> Tensor:
        """Return the weight that `unfold` was called on."""
        shape = [x.shape[at] * x.shape[at + 1] for at in range(0, len(x.shape), 2)]
        return x.reshape(shape) if isinstance(x, np.ndarray) else ops.reshape(x, shape)


def blocks_of(layer: Layer, position: int, block: int | None) -> tuple[int, ...] | None:
    """Return how many places along each axis of a kernel share a scale; `None`: it can't be in blocks.

    A block is of inputs that are next to each other in the matrix (inputs, outputs) that the kernel is: of the output
    projection of attention, whose kernel is (heads, size, outputs), a part of a head, or several heads.

    Args:
        layer: With the kernel.
        position: Of the kernel among its weights.
        block: How many inputs; `None`: no blocks are wanted.

    Example:

    >>> import keras
    >>> dense = keras.layers.Dense(3); dense.build((None, 64))
    >>> blocks_of(dense, 0, 32), blocks_of(dense, 0, 128)
    ((32, 1), None)
    """
    summed = None if block is None else summed_axes(layer, position)
    if block is None or summed is None:
        return None
    shape = innermost(layer).weights[position].shape
    sizes, left = [1] * len(shape), block
    for axis in reversed(summed):
        size = int(shape[axis])
        if left % size and size % left:
            return None
        sizes[axis] = min(left, size)
        left //= sizes[axis]
    return tuple(sizes) if left == 1 else None


def summed_axes(layer: Layer, position: int) -> tuple[int, ...] | None:
    """Return the axes of a kernel that are summed over, in the order of the matrix' rows; `None`: it is no matrix."""
    owner = owner_of(layer, position)
    if name_of(owner) == "dense":
        return (0,)
    form = matrix_form(owner) if name_of(owner) == "einsumdense" else None
    return None if form is None else form.kernel_axes[: form.summed]
