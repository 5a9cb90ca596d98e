"""Weights rounded to float16."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfcompress.core.transform import WeightTransform

Tensor = Any


@keras.saving.register_keras_serializable(package="tfcompress")
class Float16Weight(WeightTransform):
    """Rounds a weight to float16; the gradient passes straight through."""

    last = True

    def apply(self, value: Tensor) -> Tensor:
        """Return the rounded values, in the dtype they had."""
        rounded = ops.cast(ops.cast(value, "float16"), value.dtype)
        return value + ops.stop_gradient(rounded - value)

    def brief(self) -> str:
        """Return what it is."""
        return "float16"
