"""What is said of a file that isn't the model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops

from tfcompress.core.error_messages import told
from tfcompress.export import ParityError, export
from tfcompress.export.onnx import to_onnx
from tfcompress.runtime.opening import open_runner


@pytest.fixture
def wrong_tanh(monkeypatch):
    """A converter that takes Tanh for Sigmoid."""
    right = to_onnx.to_onnx

    def wrong(*args, **kwargs):
        proto = right(*args, **kwargs)
        for node in proto.graph.node:
            node.op_type = "Sigmoid" if node.op_type == "Tanh" else node.op_type
        return proto

    monkeypatch.setattr(to_onnx, "to_onnx", wrong)


@keras.saving.register_keras_serializable(package="tests")
class Inner(L.Layer):
    def call(self, x):
        return ops.exp(ops.tanh(x * 2.0)) + 1.0


def test_the_first_wrong_operation_and_its_layer_are_named(wrong_tanh, tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Dense(2, name="behind")(Inner(name="inner")(L.Dense(3, name="before")(inputs))))
    with pytest.raises(
        ParityError, match=r"first difference is at operation 'Tanh' of layer 'inner'.*Received: output 'behind'"
    ):
        export(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


class Deviation(L.Layer):
    """Of the batch, as discriminators have it."""

    def call(self, x):
        return ops.concatenate([x, ops.mean(ops.std(x, axis=0)) * ops.ones_like(x[:, :1])], -1)


def test_a_model_that_mixes_samples_needs_their_number(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Deviation()(L.Dense(3)(inputs)))
    with pytest.raises(ParityError, match=r"depend on the others of its batch.*batch_size=n"):
        export(model, tmp_path / "model.tflite")
    assert export(model, tmp_path / "model.tflite", batch_size=5).parity
    assert export(model, tmp_path / "model.onnx").parity


class Noise(L.Layer):
    """In inference too."""

    def call(self, x):
        return x + tf.random.uniform(tf.shape(x))


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_a_model_that_draws_random_numbers_is_said(suffix, tmp_path):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3), Noise(name="noise")], name="noisy")
    with pytest.raises(ValueError, match=r"no random numbers.*'noise' of model 'noisy', which draws some"):
        export(model, tmp_path / f"model{suffix}")
    assert not list(tmp_path.iterdir())


def test_a_runtime_that_fails_says_so_in_our_words(tmp_path):
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, ops.reshape(inputs, (-1, 12)))
    artifact = export(model, tmp_path / "model.onnx", verify=np.ones((2, 4, 3), "float32"))
    with pytest.raises(ValueError, match=r"Expected inputs that model\.onnx can be run on\. Received: .*\(1, 5, 3\)"):
        open_runner(artifact.path).run(
            {artifact._runner.input_specs.copy().popitem()[0]: np.ones((1, 5, 3), "float32")}
        )


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "Exception encountered when calling A.call().\n\n\x1b[1mshapes differ\x1b[0m\n\nArguments ...",
            "shapes differ",
        ),
        ('\nTraceback (most recent call last):\n  File "x.py", line 3\nValueError: no', "ValueError: no"),
        (
            "<unknown>:0: error: loc(callsite(fused['A', 'b@c']))): 'tf.X' is wrong\n<unknown>:0: note: x",
            "'tf.X' is wrong",
        ),
        ("", "RuntimeError"),
    ],
)
def test_the_line_that_says_what_went_wrong(message, line):
    assert told(RuntimeError(message)) == line
