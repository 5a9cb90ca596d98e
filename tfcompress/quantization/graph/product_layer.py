"""A product of two tensors as a layer, so that a wrapper can stand in its place."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfcompress.layers.names import NAMES


@keras.saving.register_keras_serializable(package="tfcompress")
class MatMul(keras.layers.Layer):
    """The matrix product of two tensors, as `keras.ops.matmul`: `tfc.strip` makes it that again."""

    def call(self, inputs: Any) -> Any:
        """Return the product of the first and the second."""
        return self.as_operation(inputs)

    @staticmethod
    def as_operation(inputs: Any) -> Any:
        """Return the same without a layer."""
        first, second = inputs
        return ops.matmul(first, second)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Return what the operation says: called on a tensor that Keras takes for a sparse one, it needs all sizes."""
        product = ops.matmul(*inputs)
        return keras.KerasTensor(product.shape, dtype=product.dtype)


NAMES[MatMul] = "matmul"
