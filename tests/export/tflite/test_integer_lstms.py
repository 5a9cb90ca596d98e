"""LSTMs in integers: what Keras simulates is what LiteRT computes, bit by bit."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

import tfcompress as tfc
from tests.export.tflite.test_fused_lstms import LSTM
from tfcompress.export import open_runner
from tfcompress.export.tflite.flatbuffer import operators
from tfcompress.quantization.graph.integer_lstm import IntegerLSTM


def listener(batch=None):
    x = keras.Input((6, 5), batch_size=batch, name="x")
    y = L.LSTM(7, return_sequences=True, go_backwards=True, bias_initializer="random_normal")(x)
    y = L.LSTM(4, use_bias=False, name="last")(y)
    return keras.Model(x, L.Dense(3, name="y")(y))


def samples(n=32):
    return (2 * np.random.default_rng(0).normal(size=(n, 6, 5))).astype("float32")


@pytest.fixture(scope="module")
def quantized():
    keras.utils.set_random_seed(0)
    return tfc.quantize(listener(), "int8", samples())


@pytest.mark.parametrize("batch", [1, 4])
def test_the_file_computes_what_keras_simulates(quantized, batch, tmp_path):
    x = samples()
    artifact = tfc.export(quantized, tmp_path / "m.tflite", batch_size=batch, verify=x)
    assert artifact.precision == "int8"
    assert not artifact.operators.floats
    assert artifact.parity.outputs["y"].equal == 1.0
    lstms = [op for op in operators(artifact.path.read_bytes()) if op.name == LSTM]
    assert [op.inputs[:2] for op in lstms] == [("INT8", "INT8")] * 2
    assert [op.inputs[12] for op in lstms] == ["INT32"] * 2
    assert [op.inputs[18:20] for op in lstms] == [("INT8", "INT16")] * 2
    runner = open_runner(artifact.path)
    assert np.array_equal(runner.run({"x": x[:batch]})["y"], runner.run({"x": x[:batch]})["y"])


def test_it_trains_and_is_saved(quantized, tmp_path):
    x = samples()
    target = np.tanh(x.sum(axis=(1, 2)))[:, None] * np.ones((1, 3), "float32")
    quantized.save(tmp_path / "q.keras")
    model = keras.models.load_model(tmp_path / "q.keras")
    model.compile(keras.optimizers.Adam(0.02), "mse")
    losses = model.fit(x, target, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert np.array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    artifact = tfc.export(loaded, tmp_path / "m.tflite", verify=x)
    assert artifact.parity.outputs["y"].equal == 1.0


def test_it_is_near_the_float_model_and_strips_to_a_plain_one(quantized):
    x = samples()
    floats = tfc.strip(quantized)
    assert isinstance(floats.get_layer("last"), L.LSTM)
    assert isinstance(quantized.get_layer("last"), IntegerLSTM)
    wanted, found = floats.predict(x, verbose=0), quantized.predict(x, verbose=0)
    assert 0 < np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([L.LSTM(3, activation="relu")], "its activation is relu"),
        ([L.Masking(), L.LSTM(3)], "it gets a Keras mask"),
        ([L.RNN(L.LSTMCell(3))], "no integer kernel"),
    ],
)
def test_what_has_no_integer_kernel_says_why(layers, reason):
    model = keras.Sequential([keras.Input((6, 5)), L.Dense(5), *layers, L.Dense(3)])
    shown = tfc.summary(tfc.quantize(model, "int8", samples()))
    assert any(reason in row.status for row in shown.rows if row.fallback)


def test_inference_has_gradients_to_inputs_and_kernels(quantized):
    x = tf.constant(samples(4))
    variables = [w.value for w in quantized.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(quantized(x, training=False) ** 2)
    assert all(gradient is not None and np.abs(gradient).max() > 0 for gradient in tape.gradient(loss, [x, *variables]))


@pytest.mark.parametrize(("size", "bias"), [(0.0, 0.45), (1e-8, 0.3)])
def test_the_bias_of_a_gate_with_tiny_weights_is_kept(size, bias, tmp_path):
    x = samples()
    model = keras.Sequential([keras.Input((6, 5)), L.LSTM(4, name="l")])
    kernel, recurrent, _ = model.get_weights()
    kernel[:, 4:8] *= size
    model.set_weights([kernel, recurrent, np.full(16, bias, "float32")])
    quantized = tfc.quantize(model, "int8", x)
    assert np.abs(quantized(x) - model(x)).max() < 0.05
    artifact = tfc.export(quantized, tmp_path / "m.tflite", verify=x)
    assert all(output.equal == 1.0 for output in artifact.parity.outputs.values())


def test_without_ranges_nothing_but_the_output_is_rounded():
    model = keras.Sequential([keras.Input((6, 5)), L.LSTM(4)])
    kernel, *others = model.get_weights()
    model.set_weights([1000 * kernel, *others])
    x = 1e-3 * samples()
    assert np.abs(tfc.quantize(model, "int8")(x) - model(x)).max() < 0.02


def test_sums_that_litert_would_wrap_are_refused(tmp_path):
    x = (1e6 * np.linspace(-1, 1, 101, dtype="float32")).reshape(-1, 1, 1)
    model = keras.Sequential([keras.Input((1, 1)), L.LSTM(1, kernel_initializer="ones")])
    with pytest.raises(ValueError, match="Normalization"):
        tfc.export(tfc.quantize(model, "int8", x), tmp_path / "m.tflite")


def test_kernels_of_other_ranges_stay_float_and_one_scale_is_one():
    x = samples(4)
    model = keras.Sequential([keras.Input((6, 5)), L.LSTM(3, name="l"), L.Dense(2)])
    config = tfc.QuantizeConfig(weights=tfc.WeightSpec(range="learned"))
    rows = tfc.summary(tfc.quantize(model, config, x)).rows
    assert any("one scale for each gate" in row.status for row in rows if row.fallback)
    rows = tfc.summary(tfc.quantize(tfc.cluster(model, 4), "int8", x)).rows
    assert any("one scale for each gate" in row.status for row in rows if row.fallback)
    made = tfc.quantize(model, "int8_per_tensor", x).get_layer("l")
    assert isinstance(made, IntegerLSTM)
    assert {len(np.unique(t.scale(made.value_before(t)))) for _, t in made.transforms} == {1}
