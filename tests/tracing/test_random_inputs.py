"""`export(..., random="inputs")`: what inference draws at random goes into the file."""

import functools

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
X = np.random.default_rng(0).normal(size=(48, 8)).astype("float32")


class Draws(L.Layer):
    """Does something with random numbers."""

    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how, self.seeds = how, keras.random.SeedGenerator(1)

    def build(self, shape):
        self.generator = tf.random.Generator.from_seed(1)

    def call(self, x):
        return self.how(x, ops.shape(x), self.seeds, self.generator)


def of_tensorflow(x, shape, seeds, generator):
    drawn = tf.random.normal(shape, 1.0, 0.5) + tf.random.uniform(shape, 2.0, 3.0)
    return x + drawn + generator.truncated_normal(shape) + tf.function(tf.random.normal)(shape)


def gumbel(x, shape, seeds, generator):
    return ops.softmax((x - ops.log(-ops.log(keras.random.uniform(shape, 1e-6, 1.0, seed=seeds)))) / 0.5)


def of_weights(x, shape, seeds, generator):
    return x @ keras.random.normal((3, 4), 0.0, 0.5, seed=seeds) * keras.random.uniform((), 1.0, 2.0, seed=seeds)


class AlwaysDropout(L.Dropout):
    """Drops in inference too."""

    def call(self, x, training=None):
        return super().call(x, training=True)


def network(*layers, shape=(8,)):
    return keras.Sequential([keras.Input(shape, name="x"), *layers], name="net")


def draws(how, **kwargs):
    return network(L.Dense(3), Draws(how, name="noise"), L.Dense(2, name="y"), **kwargs)


def vae():
    x = keras.Input((8,), name="x")
    hidden = L.Dense(6, activation="relu")(x)
    mean, log_var = L.Dense(3, name="mean")(hidden), L.Dense(3, name="log_var")(hidden)

    def sampling(tensors, shape, seeds, generator):
        mean, log_var = tensors
        return mean + ops.exp(0.5 * log_var) * keras.random.normal(ops.shape(mean), seed=seeds)

    z = Draws(sampling, name="sampling")([mean, log_var])
    return keras.Model(x, {"mean": mean, "log_var": log_var, "z": z, "decoded": L.Dense(4, name="decoder")(z)})


@functools.cache
def sampling_model(precision):
    keras.utils.set_random_seed(0)
    if precision == "pruned":
        return tfc.prune(vae(), 0.5)
    return tfc.quantize(vae(), "int8", data=X) if precision == "int8" else vae()


@pytest.mark.parametrize(("precision", "format"), in_turn(["float32", "int8", "pruned"], ["tflite", "onnx"]))
def test_a_sampling_layer_takes_its_noise(precision, format, tmp_path):
    model = sampling_model(precision)
    artifact = tfc.export(model, tmp_path / f"m.{format}", random="inputs")
    rows = 1 if format == "tflite" else None
    assert {name: info.shape for name, info in artifact.inputs.items()} == {
        "x": (rows, 8),
        "sampling_normal": (rows, 3),
    }
    assert any("sampling_normal: standard normal (mean 0, deviation 1)" in note for note in artifact.notes)
    assert "sampling_normal: numbers as the model draws them" in artifact.parity.about
    noise = np.random.default_rng(1).normal(size=(48, 3)).astype("float32")
    found = artifact.predict({"x": X, "sampling_normal": noise})
    wanted = found["mean"] + np.exp(0.5 * found["log_var"]) * noise
    wanted = wanted.clip(found["z"].min(), found["z"].max())  # noise beyond what calibration has seen saturates
    np.testing.assert_allclose(found["z"], wanted, atol=1e-5 if precision != "int8" else 0.05)
    np.testing.assert_allclose(found["mean"], model(X)["mean"], atol=1e-5)
    checked = tfc.verify(model, artifact.path, X)
    assert checked.samples == 48 and max(output.max_rel for output in checked.outputs) < 1e-5


@both_formats
def test_draws_of_all_sorts_and_layers(format, tmp_path):
    shared = Draws(gumbel, name="gumbel")
    inner = network(L.Dense(3), shared, shared, shape=(2,))
    model = network(L.Dense(3), Draws(of_tensorflow, name="raw"), AlwaysDropout(0.3, name="drop"), L.Dense(2), inner)
    artifact = tfc.export(model, tmp_path / f"m.{format}", random="inputs", batch_size=2)
    kinds = ["raw_normal", "raw_uniform", "raw_truncated_normal", "raw_normal_1", "drop_uniform"]
    assert sorted(artifact.inputs) == sorted(["x", *kinds, "gumbel_uniform", "gumbel_uniform_1"])
    assert {info.shape for name, info in artifact.inputs.items() if name != "x"} == {(2, 3)}
    same = {name: np.full((2, 3), 0.6, "float32") for name in artifact.inputs if name != "x"}
    runner = open_runner(artifact.path)
    before = runner.predict({"x": X[:2], **same})
    for name in same:
        changed = {**same, name: np.array([[0.9, 0.1, 0.5], [0.9, 0.9, 0.9]], "float32")}
        assert (runner.predict({"x": X[:2], **changed}) != before).any(), name


@both_formats
def test_what_is_drawn_once_for_all_samples_is_drawn_for_each_run_of_one(format, tmp_path):
    model = draws(of_weights)
    artifact = tfc.export(model, tmp_path / f"m.{format}", random="inputs", batch_size=1)
    shapes = [info.shape for info in artifact.inputs.values()]
    assert list(artifact.inputs) == ["x", "noise_normal", "noise_uniform"] and shapes == [(1, 8), (1, 3, 4), (1,)]
    assert tfc.verify(model, artifact.path, X[:5])["y"].max_rel < 1e-5
    for batch_size in (None, 3):
        with pytest.raises(ValueError, match=r"'noise' of 'net', which draws normal of shape \(3, 4\).*batch_size=1"):
            tfc.export(model, tmp_path / f"n.{format}", random="inputs", batch_size=batch_size)
    assert [path.name for path in tmp_path.iterdir()] == [f"m.{format}"]


@both_formats
def test_sizes_that_are_free_are_so_for_the_noise(format, tmp_path):
    model = draws(lambda x, shape, seeds, _: x + keras.random.truncated_normal(shape, seed=seeds), shape=(None, 8))
    artifact = tfc.export(model, tmp_path / f"m.{format}", random="inputs")
    assert artifact.inputs["noise_truncated_normal"].shape[1:] == (None, 3)
    assert tfc.verify(model, artifact.path, X.reshape(12, 4, 8))["y"].max_rel < 1e-5


@both_formats
@pytest.mark.parametrize("batch_size", [1, 2])
def test_classes_are_drawn_by_uniform_numbers(batch_size, format, tmp_path):
    def classes(x, shape, seeds, _):
        two = keras.random.categorical(x, 2, seed=seeds)
        return ops.concatenate([ops.cast(two, "float32"), x], -1)

    model = network(L.Dense(3), Draws(classes, name="noise"), L.Dense(5, use_bias=False, name="y"))
    model.get_layer("y").kernel.assign(np.eye(5))
    artifact = tfc.export(model, tmp_path / f"m.{format}", random="inputs", batch_size=batch_size)
    assert artifact.inputs["noise_uniform"].shape == (batch_size, 2, 3)
    uniform = np.random.default_rng(0).random((4000, 2, 3), "float32")
    found = artifact.predict({"x": np.repeat(X[:1], 4000, 0), "noise_uniform": uniform})
    logits = found[0, 2:].astype("float64")
    wanted = np.exp(logits) / np.exp(logits).sum()
    for column in (0, 1):
        shares = [(found[:, column] == place).mean() for place in range(3)]
        np.testing.assert_allclose(shares, wanted, atol=0.03)
    assert (found[:, 0] != found[:, 1]).any()


def test_an_input_that_nothing_reads_stays(tmp_path):
    x, y = keras.Input((8,), name="x"), keras.Input((4,), name="unread")
    model = keras.Model([x, y], Draws(gumbel, name="gumbel")(L.Dense(3)(x)))
    assert list(tfc.export(model, tmp_path / "m.onnx", random="inputs").inputs) == ["x", "unread", "gumbel_uniform"]


def test_data_to_compare_on_with_or_without_noise(tmp_path):
    model = draws(gumbel)
    noise = np.full((48, 3), 0.5, "float32")
    for data in (X, {"x": X}, {"x": X, "noise_uniform": noise}, [(X, noise)]):
        artifact = tfc.export(model, tmp_path / "m.onnx", random="inputs", verify=data, overwrite=True)
        assert artifact.parity.samples == 48
    with pytest.raises(ValueError, match=r"exported from this model, without stateful= and random="):
        tfc.debug(model, tmp_path / "m.onnx", X)
    with pytest.raises(ValueError, match="noise_uniform"):
        tfc.export(model, tmp_path / "n.onnx", random="inputs", verify={"x": X, "noise_uniform": noise[:, :2]})
    assert not (tmp_path / "n.onnx").exists()


OTHERS = {
    "RandomUniformInt": lambda x, shape, *_: x + tf.cast(tf.random.uniform(shape, 0, 3, "int32"), "float32"),
    "StatelessRandomGammaV3": lambda x, shape, seeds, _: x + keras.random.beta(shape, 1.0, 1.0, seed=seeds),
    "StatelessRandomBinomial": lambda x, shape, seeds, _: x + keras.random.binomial(shape, 3.0, 0.5, seed=seeds),
    "RandomPoissonV2": lambda x, *_: x + tf.random.poisson((3,), 1.0),
    "RandomShuffle": lambda x, *_: tf.random.shuffle(x),
    "float16": lambda x, shape, seeds, _: (
        x + ops.cast(keras.random.normal(shape, dtype="float16", seed=seeds), "float32")
    ),
    "While": lambda x, shape, seeds, _: ops.fori_loop(0, 3, lambda i, y: y + keras.random.normal(shape, seed=seeds), x),
    "If": lambda x, shape, *_: ops.cond(ops.sum(x) > 0, lambda: x + tf.random.normal(shape), lambda: x),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_draws_are_refused_by_layer_and_kind(kind, tmp_path):
    model = draws(OTHERS[kind])
    with pytest.raises(ValueError, match=rf"'noise' of model 'net', which draws .*{kind}.*split the model"):
        tfc.export(model, tmp_path / "m.onnx", random="inputs")
    with pytest.raises(ValueError, match=rf"draws no random numbers.*'noise' of model 'net'.*{kind}") as refused:
        tfc.export(model, tmp_path / "m.tflite")
    assert ("random='inputs'" in str(refused.value)) == (kind == "float16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"random": "yes"}, r"random to be 'inputs' or None.*'yes'"),
        ({"random": True}, r"random to be 'inputs' or None.*True"),
        ({"random": "inputs", "inference_io": "int8"}, r"beside random='inputs'.*inference_io='int8'"),
        ({"random": "inputs", "stateful": "io"}, r"beside random='inputs'.*stateful='io'"),
        ({}, r"'noise' of model 'net'.*float32 by StatelessRandomUniformV2.*random='inputs'"),
    ],
)
def test_wrong_use_is_refused(arguments, message, tmp_path):
    memory = [L.Reshape((2, 4)), L.LSTM(2, stateful=True)] if "stateful" in arguments else [L.Dense(2)]
    model = keras.Sequential([keras.Input(batch_shape=(1, 8)), *memory, Draws(gumbel, name="noise")], name="net")
    with pytest.raises(ValueError, match=message):
        tfc.export(model, tmp_path / "m.tflite", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_model_that_draws_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"random='inputs'.*'net', which draws none"):
        tfc.export(network(L.Dense(2), L.Dropout(0.5)), tmp_path / "m.tflite", random="inputs")
