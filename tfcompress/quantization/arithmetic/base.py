"""What is asked of an arithmetic: from sums of whole numbers to integers of the output's grid."""

from __future__ import annotations

import abc
from typing import Any, Protocol

import numpy as np
from keras import ops

Tensor = Any


class Windows(Protocol):
    """Windows of a pooling."""

    def sums(self, x: Tensor) -> Tensor:
        """Return the sums of the values in each window, added in the order of rows and columns."""

    def sums_of_whole(self, x: Tensor) -> Tensor:
        """Return the sums of whole numbers in each window, in whichever order."""

    def counts(self, rank: int) -> np.ndarray:
        """Return how many values are in each window, to divide sums of so many dimensions by."""


class Arithmetic(abc.ABC):
    """How a runtime rounds. All tensors are float32 and, but for scales, hold whole numbers that count from zero.

    Integers of a grid are given without their zero point, and come back so; what is beyond the ends of the output's
    grid is cut off by whoever asks. Scales are those of the file, float32, and broadcast.

    Attributes:
        name: By which specifications name it.
        format: Of the files that are run so, "tflite" or "onnx".
        constant_steps: The integer that stands for a constant by itself, but for its sign.
    """

    name: str
    format: str
    constant_steps: float

    def constant(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return a constant as an integer and a scale, as files have it that stands beside a tensor on a grid.

        Args:
            value: float32, a scalar.
        """
        size = ops.where(value == 0, 1.0, ops.abs(value))
        scale = ops.cast(size, "float64") / ops.cast(self.constant_steps, "float64")
        return ops.sign(value) * self.constant_steps, ops.cast(scale, "float32")

    @abc.abstractmethod
    def requantized(self, sums: Tensor, first: Tensor, second: Tensor, output: Tensor) -> Tensor:
        """Return sums of products, in units of `first * second`, as integers of an output's grid.

        Args:
            sums: Of a convolution or product of matrices, the bias included; float64 where float32 might not hold them.
            first: The scale of the input.
            second: That of the weights, or one for each channel.
            output: The scale of the output.
        """

    @abc.abstractmethod
    def added(self, x: Tensor, y: Tensor, scales: tuple[Tensor, Tensor], output: Tensor, sign: int = 1) -> Tensor:
        """Return `x + sign * y`.

        Args:
            x: Integers.
            y: Integers.
            scales: Of `x` and of `y`.
            output: The scale of the sum.
            sign: 1 or -1.
        """

    @abc.abstractmethod
    def multiplied(self, x: Tensor, y: Tensor, scales: tuple[Tensor, Tensor], output: Tensor) -> Tensor:
        """Return `x * y`; the arguments are those of `added`."""

    def product(self, sums: Tensor, scales: tuple[Tensor, Tensor], output: Tensor, symmetric: Tensor) -> Tensor:
        """Return sums of products of two tensors' integers.

        Args:
            sums: float64 where float32 might not hold them.
            scales: Of both.
            output: The scale of the product.
            symmetric: Whether the second's integers of 8 bits have the zero point 0.
        """
        return self.requantized(sums, *scales, output)

    @abc.abstractmethod
    def averaged(self, sums: Tensor, count: int, scale: Tensor, output: Tensor) -> Tensor:
        """Return means over whole axes.

        Args:
            sums: Of integers.
            count: How many integers each sum has.
            scale: Of the integers.
            output: The scale of the means.
        """

    @abc.abstractmethod
    def pooled(
        self, x: Tensor, windows: Windows, scales: tuple[Tensor, Tensor], zeros: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Return means over windows, which are rounded on the grid of `x` first where the runtime has no other.

        Args:
            x: Integers.
            windows: Which values are in each.
            scales: Of `x` and of the means.
            zeros: Their zero points, counted from the lowest integer of 8 bits.
        """

    @abc.abstractmethod
    def regridded(self, x: Tensor, scale: Tensor, output: Tensor) -> Tensor:
        """Return integers of one grid as those of another, as a concatenation needs them.

        Args:
            x: Integers.
            scale: Of `x`.
            output: The scale of the result.
        """

    @abc.abstractmethod
    def sloped(self, x: Tensor, slope: Tensor, scale: Tensor, output: Tensor) -> Tensor:
        """Return a leaky ReLU: `x` where it isn't negative, elsewhere so many times; arguments as of `regridded`."""

    @abc.abstractmethod
    def softmax(self, x: Tensor, scale: Tensor) -> Tensor:
        """Return a softmax along the last axis, in 256ths.

        Args:
            x: Integers of 8 bits.
            scale: Of `x`.
        """


def mean_of_raw(x: Tensor, windows: Windows, zero: Tensor) -> Tensor:
    """Return means of integers as TFLite has them, with their zero point: rounded by whole numbers, away from zero."""
    shift = zero - 128.0
    sums, count = windows.sums_of_whole(x + shift), windows.counts(len(x.shape))
    # The half keeps a product with the reciprocal, which TensorFlow may make of the division, off the whole number.
    return ops.sign(sums) * ops.floor((ops.abs(sums) + np.floor(count / 2) + 0.5) / count) - shift


def divided(x: Tensor, count: Any) -> Tensor:
    """Return float32 numbers divided by constant whole numbers, rounded once.

    TensorFlow may make of the division by a constant a product with its reciprocal: in float64 that changes nothing.
    """
    return ops.cast(ops.cast(x, "float64") / ops.cast(count, "float64"), "float32")


def summed_in_order(x: Tensor) -> Tensor:
    """Return sums along the last axis, as a loop adds float32 numbers, one behind the other."""
    parts = ops.moveaxis(x, -1, 0)
    return ops.fori_loop(1, x.shape[-1], lambda at, total: total + parts[at], parts[0])[..., None]


def from_largest(x: Tensor) -> Tensor:
    """Return by how many integers each is below the largest of its row, int32."""
    return ops.cast(ops.max(x, axis=-1, keepdims=True) - x, "int32")
