"""Step functions in files, run over signals."""

from __future__ import annotations

import pathlib

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tfc
from tfcompress.streaming.step_model import StepModel

RANDOM = np.random.default_rng(5)


@pytest.fixture(scope="module")
def whole() -> keras.Model:
    """Return a model of a causal and a recurrent layer."""
    keras.utils.set_random_seed(2)
    parts = [layers.Conv1D(4, 3, padding="causal", name="conv"), layers.GRU(3, return_sequences=True, name="gru")]
    return keras.Sequential([keras.Input((None, 2), name="x"), *parts, layers.Dense(2, name="out")])


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_a_file_is_the_whole_model_on_a_long_signal(whole: keras.Model, tmp_path: pathlib.Path, suffix: str) -> None:
    step = tfc.stepwise(whole, 2)
    stream = tfc.Stream(tfc.export(step.model, tmp_path / f"step.{suffix}").path)
    x = RANDOM.normal(size=(1, 60, 2)).astype("float32")
    for _ in range(2):
        made = np.concatenate(list(stream.steps(x)), axis=1)
        np.testing.assert_allclose(made, whole(x), rtol=1e-4, atol=1e-5)
        stream.reset()


def test_states_of_recurrent_layers_that_keep_them_are_carried(tmp_path: pathlib.Path) -> None:
    parts = [layers.LSTM(3, stateful=True, return_sequences=True, name="lstm")]
    model = keras.Sequential([keras.Input(batch_shape=(1, 2, 2)), *parts])
    path = tfc.export(model, tmp_path / "lstm.tflite", stateful="io").path
    x = RANDOM.normal(size=(1, 10, 2)).astype("float32")
    made = np.concatenate(list(tfc.Stream(path).steps(x)), axis=1)
    np.testing.assert_allclose(made, np.concatenate([model(x[:, at : at + 2]) for at in range(0, 10, 2)], 1), atol=1e-5)


def test_several_signals_beside_each_other(whole: keras.Model) -> None:
    x = RANDOM.normal(size=(3, 8, 2)).astype("float32")
    made = np.concatenate(list(tfc.Stream(tfc.stepwise(whole), samples=3).steps(x)), axis=1)
    np.testing.assert_allclose(made, whole(x), rtol=1e-4, atol=1e-5)


def test_a_file_without_states_is_refused(whole: keras.Model, tmp_path: pathlib.Path) -> None:
    path = tfc.export(tfc.strip(keras.Sequential([keras.Input((3,)), layers.Dense(2)])), tmp_path / "plain.onnx").path
    with pytest.raises(ValueError, match="whose states are inputs and outputs"):
        tfc.Stream(path)
    with pytest.raises(ValueError, match="samples=1"):
        tfc.Stream(tfc.export(tfc.stepwise(whole).model, tmp_path / "one.tflite", verify=False).path, samples=2)


def test_integer_states_begin_with_their_zero_points(tmp_path: pathlib.Path) -> None:
    parts = [layers.Conv1D(4, 3, padding="causal", activation="relu"), layers.Conv1D(2, 3, padding="causal")]
    data = RANDOM.normal(size=(16, 12, 3)).astype("float32") + 1.5
    quantized = tfc.quantize(keras.Sequential([keras.Input((None, 3)), *parts]), "int8", data=data)
    step = tfc.stepwise(quantized)
    for suffix in ("tflite", "onnx"):
        check_integer_states(quantized, step, data[:1], tmp_path, suffix)


def check_integer_states(quantized: keras.Model, step: StepModel, x: np.ndarray, tmp_path: pathlib.Path, suffix: str):
    artifact = tfc.export(step.model, tmp_path / f"step.{suffix}", inference_io="int8", batch_size=1)
    assert any(artifact.inputs[name].zero_point for name in step.states)
    stream = tfc.Stream(artifact.path)
    made = np.concatenate(list(stream.steps(x)), axis=1)
    (name,) = step.delay
    info = artifact.outputs[name]
    assert made.dtype == np.float32 and info.scale is not None
    np.testing.assert_allclose(made, quantized(x), atol=1.01 * info.scale)
    stream.reset()
    assert stream(np.zeros((1, 1, 3), "int8")).dtype == np.int8
