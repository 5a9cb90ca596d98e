"""A product of two tensors as a layer."""

import keras
import numpy as np
from keras import layers, ops

import tfcompress as tfc


def test_a_quantized_product_behind_a_factor_is_opened_saved_and_stripped(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, 6))
    first, second = layers.Dense(4)(inputs) * 0.5, layers.Dense(4)(inputs)  # Keras takes the first for a sparse tensor
    model = keras.Model(inputs, ops.matmul(ops.softmax(ops.matmul(first, ops.swapaxes(second, 1, 2))), second))
    x = np.random.default_rng(0).normal(size=(32, 5, 6)).astype("float32")
    quantized = tfc.quantize(model, "int8", x)
    assert sum(type(layer).__name__ == "MatMul" for layer in tfc.strip(quantized).layers) == 0
    quantized.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), quantized.predict(x, verbose=0))
