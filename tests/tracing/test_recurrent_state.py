"""`export(..., stateful="io")`: the state of recurrent layers goes in and out of the file."""

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import in_turn
from tfcompress.export import open_runner
from tfcompress.tracing.recurrent_state import streaming_signature

both_formats = pytest.mark.parametrize("format", ["tflite", "onnx"])


def sequential(*layers, batch=2):
    return keras.Sequential([keras.Input(batch_shape=(batch, 3, 3), name="x"), *layers, L.Dense(2, name="y")])


class Listener(keras.Model):
    def __init__(self):
        super().__init__()
        self.memory, self.head = L.GRU(4, stateful=True, name="memory"), L.Dense(2)

    def call(self, x):
        return self.head(self.memory(x))


def subclassed():
    model = Listener()
    model(np.zeros((2, 3, 3), "float32"))
    model.memory.reset_state()
    return model


def two_branches():
    x = keras.Input(batch_shape=(2, 3, 3), name="x")
    shared = L.GRU(4, stateful=True, return_sequences=True, name="shared")
    y = L.SimpleRNN(3, stateful=True, name="last")(shared(shared(L.Dense(3)(x)) @ np.ones((4, 3), "float32")))
    return keras.Model({"x": x}, {"y": L.Dense(2)(y)})


MODELS = {
    "LSTM": (lambda: sequential(L.LSTM(4, stateful=True, name="memory")), {"memory": [4, 4]}),
    "GRU, any length": (
        lambda: keras.Sequential(
            [keras.Input(batch_shape=(1, None, 3), name="x"), L.GRU(4, stateful=True, name="memory"), L.Dense(2)]
        ),
        {"memory": [4]},
    ),
    "SimpleRNN": (lambda: sequential(L.SimpleRNN(4, stateful=True, name="memory"), batch=1), {"memory": [4]}),
    "cells": (
        lambda: sequential(L.RNN([L.LSTMCell(4), L.GRUCell(5)], stateful=True, name="memory")),
        {"memory": [4, 4, 5]},
    ),
    "one cell": (lambda: sequential(L.RNN(L.GRUCell(4), stateful=True, name="memory")), {"memory": [4]}),
    "Bidirectional": (
        lambda: sequential(
            L.Bidirectional(
                L.LSTM(4, stateful=True, return_sequences=True),
                backward_layer=L.LSTM(4, stateful=True, return_sequences=True, go_backwards=True),
                name="both",
            ),
            L.Bidirectional(L.GRU(3, stateful=True), name="again"),
        ),
        {"both": [4, 4, 4, 4], "again": [3, 3]},
    ),
    "nested, of one name": (
        lambda: sequential(
            keras.Sequential(
                [L.GRU(4, stateful=True, return_sequences=True, name="a"), L.LSTM(3, stateful=True, name="b")]
            ),
            L.Reshape((3, 1)),
            keras.Sequential([L.GRU(5, stateful=True, name="a")]),
        ),
        {"a": [4], "b": [3, 3], "a_1": [5]},
    ),
    "subclassed": (subclassed, {"memory": [4]}),
    "shared": (two_branches, {"shared": [4], "last": [3]}),
}


def run_in_steps(artifact, model, parts):
    """Yield what the file and the stateful model give for each part of a sequence."""
    own, *states = artifact.inputs
    outputs = list(artifact.outputs)
    runner = open_runner(artifact.path)
    takes_dict = isinstance(getattr(model, "_inputs_struct", None), dict)
    values = {name: np.zeros(artifact.inputs[name].shape, "float32") for name in states}
    for part in parts:
        found = runner.run({own: part, **values})
        values = {name: found[new] for name, new in zip(states, outputs[-len(states) :], strict=True)}
        wanted = model({"x": part} if takes_dict else part)
        yield found[outputs[0]], keras.ops.convert_to_numpy(keras.tree.flatten(wanted)[0])


def sequence(model, steps=4):
    batch = next(layer for layer in model._flatten_layers() if getattr(layer, "states", None)).states
    batch = keras.tree.flatten(batch)[0].shape[0]
    return np.random.default_rng(0).normal(size=(steps, batch, 3, 3)).astype("float32")


@pytest.mark.parametrize(("kind", "format"), in_turn(MODELS, ["tflite", "onnx"]))
def test_a_file_run_step_by_step_is_the_stateful_model(kind, format, tmp_path):
    build, layers = MODELS[kind]
    model = build()
    path = tmp_path / f"m.{format}"
    shapes = {"input_shapes": (1, 3, 3)} if "any" in kind and format == "tflite" else {}
    artifact = tfc.export(model, path, stateful="io", **shapes)
    assert artifact.parity is not None
    batch = sequence(model).shape[1]
    states = {f"{name}_state_{i}": (batch, size) for name, sizes in layers.items() for i, size in enumerate(sizes)}
    assert {name: info.shape for name, info in list(artifact.inputs.items())[1:]} == states
    assert list(artifact.outputs)[1:] == [name.replace("_state_", "_new_state_") for name in states]
    assert {info.dtype for info in list(artifact.outputs.values())[1:]} == {"float32"}
    assert any(
        "zeros" in note and all(name in note for name in artifact.inputs if name != "x") for note in artifact.notes
    )
    parts = sequence(model)
    pairs = list(run_in_steps(artifact, model, parts))
    for found, wanted in pairs:
        np.testing.assert_allclose(found, wanted, atol=2e-6)


@pytest.mark.parametrize(("precision", "format"), in_turn(["int8_weights", "int8", "pruned"], ["tflite", "onnx"]))
def test_a_compressed_model_too(precision, format, tmp_path):
    keras.utils.set_random_seed(0)
    wide = keras.initializers.RandomNormal(stddev=1.0)
    memory = L.LSTM(4, stateful=True, name="memory", kernel_initializer=wide, recurrent_initializer=wide)
    plain = sequential(memory, L.Dense(3, activation="relu"), batch=1)
    parts = sequence(plain)
    model = tfc.prune(plain, 0.5) if precision == "pruned" else tfc.quantize(plain, precision)
    if precision == "int8":
        tfc.calibrate(model, parts[:, 0], batch_size=1)
    artifact = tfc.export(model, tmp_path / f"m.{format}", stateful="io")
    assert list(artifact.inputs) == ["x", "memory_state_0", "memory_state_1"]
    pairs = list(run_in_steps(artifact, model, [parts[0]] * 4))
    step = 0.04 if precision == "int8" else 2e-6
    for found, wanted in pairs:
        np.testing.assert_allclose(found, wanted, atol=step)
    assert np.abs(pairs[0][0] - pairs[3][0]).max() > step  # it remembers


@both_formats
def test_two_layers_of_a_quantized_model_are_alike_for_many_steps(format, tmp_path):
    keras.utils.set_random_seed(0)
    wide = keras.initializers.RandomNormal(stddev=0.7)
    heard = L.GRU(5, stateful=True, return_sequences=True, kernel_initializer=wide, recurrent_initializer=wide)
    plain = sequential(heard, L.SimpleRNN(4, stateful=True, kernel_initializer=wide), batch=1)
    x = np.random.default_rng(0).normal(size=(20, 3, 3)).cumsum(0).astype("float32") / 4
    model = tfc.quantize(plain, "int8", data=x)
    artifact = tfc.export(model, tmp_path / f"m.{format}", stateful="io")
    pairs = list(run_in_steps(artifact, model, [part[None] for part in x]))  # nothing of the calibration is left
    step = model.layers[-1].spec.scale(*model.layers[-1].range)
    assert max(np.abs(found - wanted).max() for found, wanted in pairs) < 1.01 * step
    assert np.mean([np.abs(found - wanted).max() < step / 2 for found, wanted in pairs]) > 0.9


@pytest.mark.parametrize(("precision", "format"), in_turn(["float32", "int8_weights"], ["tflite", "onnx"]))
def test_verify_goes_on_from_run_to_run(precision, format, tmp_path):
    keras.utils.set_random_seed(0)
    wide = keras.initializers.RandomNormal(stddev=1.0)
    model = sequential(L.GRU(4, stateful=True, name="memory", recurrent_initializer=wide), L.Dense(3))
    model = model if precision == "float32" else tfc.quantize(model, precision)
    path = tfc.export(model, tmp_path / f"m.{format}", stateful="io").path
    before = [np.array(weight) for weight in model.weights]
    parts = sequence(model)
    found = tfc.verify(model, path, parts.reshape(-1, 3, 3))
    assert found.samples == 8 and [output.name for output in found.outputs] == ["y", "memory_new_state_0"]
    assert max(output.max_rel for output in found.outputs) < 1e-5
    assert all(np.array_equal(old, new) for old, new in zip(before, map(np.array, model.weights), strict=True))
    with pytest.raises(ValueError, match="batches of 2 samples, as many as the stateful layers"):
        tfc.verify(model, path, parts.reshape(-1, 3, 3)[:3])


def test_half_precision_and_ids_of_a_table(tmp_path):
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(1, 5), name="ids"),
            L.Embedding(7, 3, mask_zero=True),
            L.LSTM(4, stateful=True, name="memory", dtype="mixed_float16"),
        ]
    )
    artifact = tfc.export(model, tmp_path / "m.onnx", stateful="io", precision="float16")
    assert "noise" not in str(artifact.parity).split("memory_state_0")[0]
    assert artifact.inputs["memory_state_1"].dtype == "float32"


def test_data_to_compare_on_with_or_without_states(tmp_path):
    model = sequential(L.GRU(4, stateful=True, name="memory"))
    x = sequence(model)[0]
    for data in (x, {"x": x}, {"x": x, "memory_state_0": np.ones((2, 4), "float32")}):
        artifact = tfc.export(model, tmp_path / "m.tflite", stateful="io", verify=data, overwrite=True)
        assert artifact.parity.samples == 2
    with pytest.raises(ValueError, match="memory_state_0"):
        tfc.export(model, tmp_path / "n.tflite", stateful="io", verify={"x": x, "memory_state_0": np.ones((2, 5))})


def test_the_forward_layer_of_two_stands_first():
    both = L.Bidirectional(L.GRU(4, stateful=True, name="gru"), name="both")
    signature = streaming_signature(sequential(keras.Sequential([both])))
    assert signature.keys == (("forward_gru", 0), ("backward_gru", 0))


def test_the_model_keeps_its_own_state(tmp_path):
    model = sequential(L.GRU(4, stateful=True, name="memory"))
    model(sequence(model)[0])
    before = model.get_layer("memory").states[0].numpy()
    tfc.export(model, tmp_path / "m.onnx", stateful="io")
    np.testing.assert_array_equal(model.get_layer("memory").states[0].numpy(), before)
    assert np.any(before)


def test_what_else_assigns_is_still_refused(tmp_path):
    class Counter(L.Layer):
        def build(self, shape):
            self.count = self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            self.count.assign(self.count + 1.0)
            return x + self.count

    model = sequential(L.GRU(4, stateful=True, name="memory"), Counter(name="counter"))
    with pytest.raises(ValueError, match=r"counter.*training=False"):
        tfc.export(model, tmp_path / "m.onnx", stateful="io")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stateful": "yes"}, r"stateful to be 'io' or None.*'yes'"),
        ({"stateful": True}, r"stateful to be 'io' or None.*True"),
        ({"stateful": "io", "batch_size": 1}, r"batch size.*: 2.*batch_size=1"),
        ({"stateful": "io", "batch_size": None}, r"batch size.*: 2.*batch_size=None"),
        ({"stateful": "io", "inference_io": "int8"}, r"inference_io='float32'.*stateful='io'"),
        ({}, r"memory.*stateful=True.*stateful='io'"),
    ],
)
def test_wrong_use_is_refused(arguments, message, tmp_path):
    model = sequential(L.GRU(4, stateful=True, name="memory"))
    with pytest.raises(ValueError, match=message):
        tfc.export(model, tmp_path / "m.tflite", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_model_without_states_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"stateful=True.*has none"):
        tfc.export(sequential(L.GRU(4)), tmp_path / "m.tflite", stateful="io")
