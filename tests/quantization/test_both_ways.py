"""Bidirectional layers, quantized as two recurrent layers."""

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.export.tflite.test_fused_lstms import LSTM
from tfcompress.quantization.graph.integer_lstm import IntegerLSTM


def samples():
    return (2 * np.random.default_rng(0).normal(size=(32, 6, 5))).astype("float32")


def both(mode):
    inner = L.Bidirectional(L.LSTM(4, return_sequences=True), merge_mode=mode, name="a")
    return [inner, L.Bidirectional(L.LSTM(4), merge_mode=mode, name="b")]


def network(*layers):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6, 5), name="x"), *layers, L.Dense(3, name="y")])


@pytest.mark.parametrize("mode", ["concat", "ave"])
def test_the_file_computes_what_keras_simulates(mode, tmp_path):
    x, model = samples(), network(*both(mode))
    quantized = tfc.quantize(model, "int8", x)
    assert isinstance(quantized.get_layer("b_backward"), IntegerLSTM)
    floats, found = (one.predict(x, verbose=0) for one in (model, quantized))
    assert 0 < np.abs(floats - found).max() < 0.1 * np.abs(floats).max()
    quantized.save(tmp_path / "q.keras")
    artifact = tfc.export(keras.models.load_model(tmp_path / "q.keras"), tmp_path / "m.tflite", verify=x)
    assert not artifact.operators.floats
    assert artifact.operators.kinds[LSTM] == 4
    assert artifact.parity.outputs["y"].equal == 1.0


def test_masks_go_along():
    quantized = tfc.quantize(tfc.prune_once(network(*both("concat")), 0.5), "int8", samples())
    kernel = tfc.strip(quantized).get_layer("a_forward").get_weights()[0]
    assert isinstance(quantized.get_layer("a_forward"), IntegerLSTM)
    assert np.mean(kernel == 0) >= 0.5


def test_a_choice_of_layers_holds_for_both_and_what_has_no_integer_kernel_stays_one():
    x = samples()
    chosen = tfc.quantize(network(*both("concat")), "int8", x, layers=["b", "y"])
    assert isinstance(chosen.get_layer("b_forward"), IntegerLSTM)
    assert "a_forward" not in [layer.name for layer in chosen.layers]
    whole = tfc.quantize(network(L.Bidirectional(L.GRU(3), name="c"), L.Reshape((1, 6)), *both("sum")), "int8_weights")
    assert {"a", "b", "c"} <= {layer.name for layer in whole.layers}
    rows = tfc.summary(tfc.quantize(network(L.Masking(), *both("sum")), "int8", x)).rows
    assert any(row.fallback for row in rows if row.layer == "a")
