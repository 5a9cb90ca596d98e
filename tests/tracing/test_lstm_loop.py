"""LSTMs of many units whose last output is wanted: a loop with the input's products in front of it."""

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.tracing.test_fused_lstms import all_ways, types
from tfcompress.export.tflite.flatbuffer import operators
from tfcompress.tracing import lstm_loop
from tfcompress.tracing.fused_lstms import FUSED
from tfcompress.tracing.trace import trace


@pytest.mark.parametrize("batch", [1, 2])
def test_it_computes_what_keras_computes(batch, monkeypatch):
    monkeypatch.setattr(lstm_loop, "UNITS", 1)
    model, random = all_ways(), np.random.default_rng(0)
    traced = trace(model, batch, "tflite")
    assert types(traced).count(FUSED) == 3  # those that give sequences
    assert sum("While" in name for name in types(traced)) == 2
    samples = [random.normal(size=(batch, *x.shape[1:])).astype("float32") for x in model.inputs]
    made = traced.concrete(*samples)
    for name, wanted in zip(traced.outputs, model(samples), strict=True):
        np.testing.assert_allclose(made[name], wanted, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2])
def test_few_steps_are_no_loop(steps):
    model = keras.Sequential([keras.Input((steps, 3), name="x"), L.LSTM(64)])
    traced = trace(model, 1, "tflite")
    assert not {"While", "StatelessWhile", FUSED} & set(types(traced))
    x = np.random.default_rng(0).normal(size=(1, steps, 3)).astype("float32")
    (made,) = traced.concrete(x).values()
    np.testing.assert_allclose(made, model(x), atol=1e-6)


@pytest.mark.parametrize("steps", [4, 5])
def test_its_products_are_integers_where_ranges_are_found_at_run_time(steps, tmp_path):
    keras.utils.set_random_seed(0)
    layers = [L.LSTM(64, name="l", bias_initializer="random_normal"), L.Dense(3, name="y")]
    model = tfc.quantize(keras.Sequential([keras.Input((steps, 6), name="x"), *layers]), "dynamic_int8")
    artifact = tfc.export(model, tmp_path / "m.tflite")
    dense = [op for op in operators(artifact.path.read_bytes()) if op.name == "FULLY_CONNECTED"]
    assert [op.inputs[1] for op in dense] == ["INT8"] * (3 if steps % 2 else 4)
    assert artifact.parity.outputs["y"].max_abs < 0.02


def test_a_file_for_a_microcontroller_has_the_operator_which_takes_less_memory(tmp_path):
    model = keras.Sequential([keras.Input((6, 3), name="x"), L.LSTM(64, name="l")])
    made = {
        target: tfc.export(model, tmp_path / f"{target}.tflite", target=target)
        for target in ("android", "microcontroller")
    }
    kinds = {target: [op.name for op in operators(one.path.read_bytes())] for target, one in made.items()}
    assert "WHILE" in kinds["android"] and "UNIDIRECTIONAL_SEQUENCE_LSTM" not in kinds["android"]
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in kinds["microcontroller"] and "WHILE" not in kinds["microcontroller"]
    arenas = {target: tfc.footprint(one.path).arena.total for target, one in made.items()}
    assert arenas["microcontroller"] < arenas["android"] / 2
