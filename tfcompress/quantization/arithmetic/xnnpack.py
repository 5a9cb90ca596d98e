"""The arithmetic of XNNPACK, LiteRT's kernels for processors: a float32 factor, halves to even."""

from __future__ import annotations

from typing import Any

from keras import ops

from tfcompress.quantization.arithmetic.base import (
    Arithmetic,
    Windows,
    divided,
    from_largest,
    mean_of_raw,
    summed_in_order,
)
from tfcompress.quantization.arithmetic.fixed_point import factor_of, power_of_two, scaled, with_bits

Tensor = Any

MULTIPLIER_BITS = 20
"""Of the larger of the two factors of a sum."""


class XnnPack(Arithmetic):
    """XNNPACK, as LiteRT runs it by default.

    Sums of products are multiplied by input scale * weight scale / output scale in float32 and rounded, halves to even.
    Of a sum of two tensors each is multiplied by an integer of 20 bits, and what is shifted off goes up from a half on.
    """

    name = "xnnpack"
    format = "tflite"
    constant_steps = 255.0

    def requantized(self, sums: Tensor, first: Tensor, second: Tensor, output: Tensor) -> Tensor:
        """Return sums in units of `first * second` as integers of the output's grid."""
        return ops.round(ops.cast(sums, "float32") * (first * second / output))

    def added(self, x: Tensor, y: Tensor, scales: tuple[Tensor, Tensor], output: Tensor, sign: int = 1) -> Tensor:
        """Return `x + sign * y`."""
        factors = [scale / output for scale in scales]
        integers, shift = with_bits(factors, MULTIPLIER_BITS)
        x, y = (ops.cast(part, "int32") for part in (x, y))
        total = x * integers[0] + y * (sign * integers[1])
        half = power_of_two(shift - 1)
        return ops.cast(ops.right_shift(total + half, shift + ops.zeros_like(total)), "float32")

    def multiplied(self, x: Tensor, y: Tensor, scales: tuple[Tensor, Tensor], output: Tensor) -> Tensor:
        """Return `x * y`."""
        return self.requantized(x * y, *scales, output)

    def product(self, sums: Tensor, scales: tuple[Tensor, Tensor], output: Tensor, symmetric: Tensor) -> Tensor:
        """Return sums of products of two tensors' integers; LiteRT's own kernel runs where XNNPACK doesn't."""
        own = scaled(sums, factor_of(*scales, output))
        return ops.where(symmetric, self.requantized(sums, *scales, output), own)

    def averaged(self, sums: Tensor, count: int, scale: Tensor, output: Tensor) -> Tensor:
        """Return means over whole axes."""
        return ops.round(sums * divided(scale / output, count))

    def pooled(
        self, x: Tensor, windows: Windows, scales: tuple[Tensor, Tensor], zeros: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Return means over windows: integers of the grid of `x`, as those of the other."""
        return self.regridded(mean_of_raw(x, windows, zeros[0]), *scales)

    def regridded(self, x: Tensor, scale: Tensor, output: Tensor) -> Tensor:
        """Return integers of one grid as those of another."""
        return _in_256ths(x, scale / output)

    def sloped(self, x: Tensor, slope: Tensor, scale: Tensor, output: Tensor) -> Tensor:
        """Return a leaky ReLU."""
        factor = scale / output
        return ops.where(x < 0, _in_256ths(x, factor * slope), _in_256ths(x, factor))

    def softmax(self, x: Tensor, scale: Tensor) -> Tensor:
        """Return a softmax along the last axis, in 256ths; XNNPACK has none of 8 bits, and LiteRT's own kernel runs."""
        exponents = ops.arange(256, dtype="float32") * -scale
        table = ops.cast(ops.exp(ops.cast(exponents, "float64")), "float32")
        powers = ops.take(table, from_largest(x), axis=0)
        probabilities = powers * (1.0 / (summed_in_order(powers) * (1.0 / 256.0)))
        whole = ops.floor(probabilities)
        return ops.where(probabilities - whole >= 0.5, whole + 1.0, whole)


def _in_256ths(x: Tensor, factor: Tensor) -> Tensor:
    """Return whole numbers times a factor that is rounded to 256ths; halves go up."""
    return ops.floor((x * ops.round(256.0 * factor) + 128.0) / 256.0)
