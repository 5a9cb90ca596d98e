"""A product of two tensors as a layer, so that a wrapper can stand in its place."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfcompress.layers.names import NAMES


@keras.saving.register_keras_serializable(package="tfcompress")
class MatMul(keras.layers.Layer):
    """The matrix product of two tensors, as `keras.ops.matmul`."""

    def call(self, inputs: Any) -> Any:
        """Return the product of the first and the second."""
        first, second = inputs
        return ops.matmul(first, second)


NAMES[MatMul] = "matmul"
