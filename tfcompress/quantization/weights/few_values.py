"""Binary and ternary weights, in training and in files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.sharding import gathered
from tfcompress.core.transform import Encoded, decoded
from tfcompress.quantization.encoding import Affine
from tfcompress.quantization.numerics.custom_gradient import differentiable
from tfcompress.quantization.numerics.fake_quant import upstream_of
from tfcompress.quantization.numerics.few_values import few_values
from tfcompress.quantization.weights.uniform import WeightQuantizer

Tensor = Any


@keras.saving.register_keras_serializable(package="tfcompress")
class FewValues(WeightQuantizer):
    """Makes each weight one of two or three values of its channel; the gradient passes straight through.

    As `numerics.few_values` has it. Files hold the signs as integers, in as few bits as the format has for them.
    """

    def build(self, weight: keras.Variable, add_state: Callable[..., keras.Variable]) -> None:
        """Nothing is kept: the values follow the weight in every call."""
        self.ratio = None

    def apply(self, value: Tensor) -> Tensor:
        """Return the values."""

        @differentiable
        def made(x: Tensor) -> tuple[Tensor, Any]:
            signs, scale = self._found(ops, x)
            return signs * scale, lambda *arguments, **keywords: upstream_of(arguments, keywords)

        return ops.cast(made(ops.cast(value, "float32")), value.dtype)

    def encode(self, value: np.ndarray | Encoded) -> Affine:
        """Return the signs and scales of the values that `apply` gives."""
        x = ops.convert_to_tensor(decoded(value).astype(np.float32, copy=False))
        signs, scale = (gathered(part) for part in self._found(ops, x))
        return Affine(signs.astype(np.int8), np.where(scale > 0, scale, np.float32(1)), bits=self.spec.bits)

    def limit(self, value: Tensor) -> Tensor:
        """Return the size of the values: a scalar, or one for each entry of `axis`."""
        scale = self._found(np if isinstance(value, np.ndarray) else ops, value)[1]
        shape = [value.shape[axis] for axis in self.axis or ()]
        return scale.reshape(shape) if isinstance(scale, np.ndarray) else ops.reshape(scale, shape)

    def _found(self, xp: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        others = [axis for axis in range(len(x.shape)) if axis not in (self.axis or ())]
        return few_values(xp, x, others, self.spec.range == "binary")
