"""The arithmetic of TFLite's reference kernels, which TFLite Micro has: fixed point, halves away from zero."""

from __future__ import annotations

from typing import Any

from keras import ops

from tfcompress.quantization.arithmetic import fixed_point, fixed_point_softmax
from tfcompress.quantization.arithmetic.base import Arithmetic, Windows, mean_of_raw

Tensor = Any

LEFT_SHIFT = 20
"""By which the inputs of a sum are moved to the left before they are scaled."""


class Reference(Arithmetic):
    """TFLite's reference kernels, as TFLite Micro runs them, and LiteRT on demand, but for dense layers.

    A factor is an integer of 31 bits and a shift. The product with the one is rounded, halves up, and what the other
    shifts off as well, halves away from zero (`fixed_point`).
    """

    name = "reference"
    format = "tflite"
    constant_steps = 255.0

    def requantized(self, sums: Tensor, first: Tensor, second: Tensor, output: Tensor) -> Tensor:
        """Return sums in units of `first * second` as integers of the output's grid."""
        return fixed_point.scaled(sums, fixed_point.factor_of(first, second, output))

    def added(self, x: Tensor, y: Tensor, scales: tuple[Tensor, Tensor], output: Tensor, sign: int = 1) -> Tensor:
        """Return `x + sign * y`."""
        first, second, output = (_double(scale) for scale in (*scales, output))
        twice = 2.0 * ops.maximum(first, second)
        one, (other, shift) = (fixed_point.multiplier_of(scale / twice) for scale in (first, second))
        last = fixed_point.multiplier_of(twice / (float(1 << LEFT_SHIFT) * output))
        return fixed_point.sum_of((x, y), (one, (sign * other, shift)), last, LEFT_SHIFT)

    def multiplied(self, x: Tensor, y: Tensor, scales: tuple[Tensor, Tensor], output: Tensor) -> Tensor:
        """Return `x * y`."""
        return self.requantized(x * y, *scales, output)

    def averaged(self, sums: Tensor, count: int, scale: Tensor, output: Tensor) -> Tensor:
        """Return means over whole axes: the integer of the factor is divided by the count."""
        return fixed_point.mean_of(sums, count, _double(scale) / _double(output))

    def pooled(
        self, x: Tensor, windows: Windows, scales: tuple[Tensor, Tensor], zeros: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Return means over windows: integers of the grid of `x`, as those of the other."""
        return self.regridded(mean_of_raw(x, windows, zeros[0]), *scales)

    def regridded(self, x: Tensor, scale: Tensor, output: Tensor) -> Tensor:
        """Return integers of one grid as those of another."""
        return fixed_point.scaled(x, _double(scale) / _double(output))

    def sloped(self, x: Tensor, slope: Tensor, scale: Tensor, output: Tensor) -> Tensor:
        """Return a leaky ReLU."""
        negative = fixed_point.scaled(x, fixed_point.factor_of(scale, slope, output))
        return ops.where(x < 0, negative, self.regridded(x, scale, output))

    def softmax(self, x: Tensor, scale: Tensor) -> Tensor:
        """Return a softmax along the last axis, in 256ths."""
        return fixed_point_softmax.softmax(x, _double(scale))


def _double(scale: Tensor) -> Tensor:
    return ops.cast(scale, "float64")
