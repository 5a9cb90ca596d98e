"""The fake-quantizer that stands in a graph to be exported: its range is a constant."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


@keras.saving.register_keras_serializable(package="tfcompress")
class FixedQuantizer(keras.layers.Layer):
    """One `FakeQuantWithMinMaxVars` operation with a constant range (TensorFlow).

    Args:
        minimum: Lower end of the range, at most 0.
        maximum: Upper end, at least 0.
        bits: 2 to 16.
        narrow: Whether the lowest integer stays unused.
    """

    def __init__(self, minimum: float, maximum: float, bits: int = 8, narrow: bool = False, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.minimum, self.maximum = float(minimum), float(maximum)
        self.bits, self.narrow = int(bits), bool(narrow)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return `inputs` on the grid."""
        import tensorflow as tf

        low, high = np.float32(self.minimum), np.float32(self.maximum)
        return tf.quantization.fake_quant_with_min_max_vars(
            tf.cast(inputs, tf.float32), low, high, num_bits=self.bits, narrow_range=self.narrow
        )

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Return the shape of the inputs, float32."""
        return keras.KerasTensor(inputs.shape, "float32")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "minimum": self.minimum,
            "maximum": self.maximum,
            "bits": self.bits,
            "narrow": self.narrow,
        }
