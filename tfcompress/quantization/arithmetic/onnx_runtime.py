"""The arithmetic of ONNX Runtime's integer kernels for processors: float32, halves to even."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from tfcompress.quantization.arithmetic.base import Arithmetic, Windows, divided, from_largest, summed_in_order

Tensor = Any

ROOM = 5.0
"""By how much the logarithm of a sum of powers of e is kept below that of the largest float32 number."""


class OnnxRuntime(Arithmetic):
    """ONNX Runtime: sums of products are rounded as XNNPACK's; those of tensors are computed in float32."""

    name = "onnxruntime"
    format = "onnx"
    constant_steps = 1.0

    def requantized(self, sums: Tensor, first: Tensor, second: Tensor, output: Tensor) -> Tensor:
        """Return sums in units of `first * second` as integers of the output's grid."""
        return ops.round(ops.cast(sums, "float32") * (first * second / output))

    def added(self, x: Tensor, y: Tensor, scales: tuple[Tensor, Tensor], output: Tensor, sign: int = 1) -> Tensor:
        """Return `x + sign * y`."""
        return ops.round(x * (scales[0] / output) + y * (sign * scales[1] / output))

    def multiplied(self, x: Tensor, y: Tensor, scales: tuple[Tensor, Tensor], output: Tensor) -> Tensor:
        """Return `x * y`."""
        return self.requantized(x * y, *scales, output)

    def averaged(self, sums: Tensor, count: int, scale: Tensor, output: Tensor) -> Tensor:
        """Return means over whole axes."""
        return ops.round(sums * (scale / (output * float(count))))

    def pooled(
        self, x: Tensor, windows: Windows, scales: tuple[Tensor, Tensor], zeros: tuple[Tensor, Tensor]
    ) -> Tensor:
        """Return means over windows: of real numbers, rounded with the zero point."""
        means = divided(windows.sums(x * scales[0]), windows.counts(len(x.shape)))
        return ops.round(means / scales[1] + zeros[1]) - zeros[1]

    def regridded(self, x: Tensor, scale: Tensor, output: Tensor) -> Tensor:
        """Return integers of one grid as those of another."""
        return ops.round(x * scale / output)

    def sloped(self, x: Tensor, slope: Tensor, scale: Tensor, output: Tensor) -> Tensor:
        """Return a leaky ReLU."""
        real = x * scale
        return ops.round(ops.where(x < 0, real * slope, real) / output)

    def softmax(self, x: Tensor, scale: Tensor) -> Tensor:
        """Return a softmax along the last axis, in 256ths: powers of e as large as their sum leaves room for."""
        scale = ops.cast(scale, "float64")
        largest = np.log(np.finfo(np.float32).max / np.float32(x.shape[-1]))
        exponents = (ops.arange(0.0, -256.0, -1.0, dtype="float64") + (float(largest) - ROOM) / scale) * scale
        powers = ops.take(ops.cast(ops.exp(exponents), "float32"), from_largest(x), axis=0)
        return ops.round(powers * 256.0 / summed_in_order(powers))
