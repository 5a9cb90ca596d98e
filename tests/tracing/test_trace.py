"""What Keras writes with operations that no file format has."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfcompress.export import export, open_runner


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_what_keras_writes_with_operations_of_its_own(suffix, tmp_path):
    """Grouped convolutions are functions of their own in Keras, and argmax looks at the sign's bit."""
    inputs = keras.Input((9, 9, 8), name="x")
    hidden = keras.layers.Conv2D(12, 3, groups=4, strides=2)(inputs)
    hidden = keras.layers.Conv1D(6, 3, groups=3, name="grouped")(keras.layers.Reshape((16, 12))(hidden))
    best = keras.ops.argmax(hidden, axis=-1, keepdims=True)
    worst = keras.ops.argmin(hidden, axis=1)
    model = keras.Model(inputs, {"scores": hidden, "best": best, "worst": worst})
    path = tmp_path / f"model{suffix}"
    x = np.random.default_rng(0).normal(size=(1, 9, 9, 8)).astype("float32")
    artifact = export(model, path, batch_size=1, verify=x)
    expected = model(x)
    received = open_runner(path).run({"x": x})
    np.testing.assert_allclose(received["scores"], expected["scores"], atol=1e-5)
    np.testing.assert_array_equal(received["best"], expected["best"])
    np.testing.assert_array_equal(received["worst"], expected["worst"])
    assert artifact.parity.outputs["best"].max_abs == 0


class Loops(keras.layers.Layer):
    """Goes over the steps of a sequence in Python."""

    def call(self, x):
        return sum(x[:, step] for step in range(keras.ops.shape(x)[1]))

    def compute_output_shape(self, shape):
        return shape[0], shape[2]


def test_a_layer_that_needs_a_size_as_a_number_is_named(tmp_path):
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(Loops(name="loops")(inputs)), name="net")
    with pytest.raises(
        ValueError, match="Received: layer 'loops' of model 'net', which failed.*Give the model's Input"
    ):
        export(model, tmp_path / "model.onnx")
