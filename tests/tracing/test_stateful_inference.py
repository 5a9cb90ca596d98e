"""Inference that changes a model's state is refused by name; state as inputs and outputs works."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.check import in_turn
from tfcompress.export import open_runner

both_formats = pytest.mark.parametrize("format", ["tflite", "onnx"])


class Counter(L.Layer):
    """Adds how often it was called, or, with `training_only`, was trained."""

    def __init__(self, training_only=False, raw=False, **kwargs):
        super().__init__(**kwargs)
        self.training_only, self.raw = training_only, raw

    def build(self, shape):
        self.count = (
            tf.Variable(0.0)
            if self.raw
            else self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)
        )

    def call(self, x, training=False):
        if self.raw:
            self.count.assign_add(1.0)
        elif training or not self.training_only:
            self.count.assign(self.count + 1.0)
        return x + ops.convert_to_tensor(self.count)

    def get_config(self):
        return {**super().get_config(), "training_only": self.training_only, "raw": self.raw}


class Watched(L.Layer):
    """Keeps a metric and draws from a seed in training: no output depends on it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.mean = keras.metrics.Mean(name="watched")
        self.noise = L.GaussianNoise(0.1, seed=1)

    def call(self, x, training=False):
        self.mean.update_state(ops.mean(x))
        return self.noise(x, training=training)


class Blind(L.Layer):
    """Counts its calls, which changes no output."""

    def build(self, shape):
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign(self.count + 1.0)
        return x * 2.0


def stateful(layer):
    return keras.Sequential([keras.Input(batch_shape=(1, 5, 3), name="x"), layer, L.Dense(2, name="y")])


RECURRENT = {
    "LSTM": lambda: L.LSTM(4, stateful=True, name="memory"),
    "GRU": lambda: L.GRU(4, stateful=True, name="memory"),
    "RNN": lambda: L.RNN(L.LSTMCell(4), stateful=True, name="memory"),
    "stacked": lambda: L.RNN([L.GRUCell(4), L.GRUCell(3)], stateful=True, name="memory"),
    "Bidirectional": lambda: L.Bidirectional(L.LSTM(4, stateful=True, name="memory")),
    "ConvLSTM1D": lambda: keras.Sequential(
        [L.Reshape((5, 3, 1)), L.ConvLSTM1D(2, 2, stateful=True, name="memory"), L.Flatten()]
    ),
}


@pytest.mark.parametrize(("kind", "format"), in_turn(RECURRENT, ["tflite", "onnx"]))
def test_stateful_layers_are_refused_by_name(kind, format, tmp_path):
    with pytest.raises(ValueError, match=r"memory.*stateful=True.*initial_state"):
        tfc.export(stateful(RECURRENT[kind]()), tmp_path / f"m.{format}")
    assert not list(tmp_path.iterdir())


def test_a_quantized_stateful_model_too(tmp_path):
    quantized = tfc.quantize(stateful(RECURRENT["LSTM"]()), "int8_weights")
    with pytest.raises(ValueError, match=r"memory.*stateful=True"):
        tfc.export(quantized, tmp_path / "m.onnx")


@both_formats
@pytest.mark.parametrize("raw", [False, True])
def test_what_assigns_in_inference_is_refused(raw, format, tmp_path):
    model = keras.Sequential([keras.Input((3,)), Counter(raw=raw, name="counter"), L.Dense(2)])
    with pytest.raises(ValueError, match=r"counter.*training=False"):
        tfc.export(model, tmp_path / f"m.{format}")
    if not raw:
        assert float(model.get_layer("counter").count) == 0.0


@both_formats
def test_what_assigns_in_training_alone_is_taken(format, tmp_path):
    layers = [Counter(training_only=True), Watched(), Blind(), L.BatchNormalization(), L.Dropout(0.5), L.Dense(2)]
    tfc.export(keras.Sequential([keras.Input((3,)), *layers]), tmp_path / f"m.{format}")


@both_formats
def test_batch_statistics_depend_on_no_state(format, tmp_path):
    x = keras.Input((3,))
    y = L.BatchNormalization()(L.Dense(4)(x), training=True)
    tfc.export(keras.Model(x, L.Dense(2)(y)), tmp_path / f"m.{format}", batch_size=4)


@both_formats
def test_state_as_inputs_and_outputs_is_that_of_a_stateful_model(format, tmp_path):
    """As the error advises: step by step, the file computes what the stateful model does."""
    reference = stateful(RECURRENT["LSTM"]())
    x = keras.Input((5, 3), name="x")
    h, c = keras.Input((4,), name="h"), keras.Input((4,), name="c")
    y, *state = L.LSTM(4, return_state=True)(x, initial_state=[h, c])
    model = keras.Model([x, h, c], [L.Dense(2, name="y")(y), L.Identity(name="h2")(state[0]), state[1]])
    model.set_weights([weight.numpy() for layer in reference.layers for weight in layer.trainable_variables])
    path = tfc.export(model, tmp_path / f"m.{format}", batch_size=1).path
    runner = open_runner(path)
    first, hidden, cell = runner.output_names
    values = {"h": np.zeros((1, 4), "float32"), "c": np.zeros((1, 4), "float32")}
    for part in np.random.default_rng(0).normal(size=(4, 1, 5, 3)).astype("float32"):
        found = runner.run({"x": part, **values})
        values = {"h": found[hidden], "c": found[cell]}
        np.testing.assert_allclose(found[first], reference(part), atol=1e-5)


class Noise(L.Layer):
    """Adds what it draws: of a generator, of TensorFlow's own, or of one fixed seed."""

    def __init__(self, kind, **kwargs):
        super().__init__(**kwargs)
        self.kind, self.seeds = kind, keras.random.SeedGenerator(1)

    def call(self, x):
        if self.kind == "raw":
            return x + tf.random.normal(tf.shape(x))
        return x + keras.random.uniform(ops.shape(x), seed=self.seeds if self.kind == "generator" else 3)


@both_formats
@pytest.mark.parametrize("kind", ["generator", "raw"])
def test_random_numbers_in_inference_are_refused_by_layer(kind, format, tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, L.Dense(2)(Noise(kind, name="noise_2")(inputs)), name="net")
    with pytest.raises(ValueError, match="draws no random numbers.*'noise_2' of model 'net'.*an input of the model"):
        tfc.export(model, tmp_path / f"net.{format}", batch_size=2)
    assert not list(tmp_path.iterdir())


def test_random_numbers_of_a_fixed_seed_are_constants(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, Noise("seed")(L.Dense(3)(inputs)))
    assert tfc.export(model, tmp_path / "net.onnx", batch_size=2).parity.samples


class Masks(L.Layer):
    """Assigns to a kernel in each call: the same value; or, with `late`, the one that counts from the next call on."""

    def __init__(self, late=False, **kwargs):
        super().__init__(**kwargs)
        self.late, self.dense = late, L.Dense(3)

    def build(self, shape):
        self.dense.build(shape)
        self.mask = np.tri(shape[-1], 3, dtype="float32")

    def call(self, x):
        before = self.dense(x) if self.late else None
        self.dense.kernel.assign(self.dense.kernel * self.mask)
        return before if self.late else self.dense(x)


def test_a_kernel_that_is_masked_in_each_call_is_exported(tmp_path):
    inputs = keras.Input((4,))
    model, x = keras.Model(inputs, L.Dense(2)(Masks()(inputs))), np.eye(4, dtype="float32")
    with pytest.warns(UserWarning, match="'masks' stays float"):
        quantized = tfc.quantize(model, "int8", x)
    late = keras.Model(inputs, Masks(late=True, name="late")(inputs))
    for format in ("tflite", "onnx"):
        for made in (model, quantized):
            assert tfc.export(made, tmp_path / f"net.{format}", verify=x, overwrite=True).parity.samples == 4
        with pytest.raises(ValueError, match="changes no variable.*'dense"):
            tfc.export(late, tmp_path / f"late.{format}")
