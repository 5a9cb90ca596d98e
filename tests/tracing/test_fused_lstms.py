"""LSTMs as one operation over all steps."""

import keras
import numpy as np
import pytest
from keras import layers as L

from tfcompress.tracing.fused_lstms import FUSED
from tfcompress.tracing.trace import trace


def types(traced):
    return [op.type for op in traced.concrete.graph.get_operations()]


def all_ways():
    x = keras.Input((5, 3))
    h, c = keras.Input((4,)), keras.Input((4,))
    y = L.Bidirectional(L.LSTM(3, return_sequences=True))(x)
    outputs = [
        L.LSTM(4, return_sequences=True, go_backwards=True, bias_initializer="random_normal")(y),
        L.LSTM(4, unroll=True, use_bias=False)(x),
        *L.LSTM(4, return_state=True, dropout=0.5)(x, initial_state=[h, c]),
    ]
    return keras.Model([x, h, c], outputs)


@pytest.mark.parametrize("batch", [1, 2])
def test_it_computes_what_keras_computes(batch):
    model, random = all_ways(), np.random.default_rng(0)
    traced = trace(model, batch, "tflite")
    assert types(traced).count(FUSED) == 5
    assert not any("While" in name for name in types(traced))
    samples = [random.normal(size=(batch, *x.shape[1:])).astype("float32") for x in model.inputs]
    made = traced.concrete(*samples)
    for name, wanted in zip(traced.outputs, model(samples), strict=True):
        np.testing.assert_allclose(made[name], wanted, atol=1e-6)
    assert "inner_loop" not in vars(model.layers[-1])


class Own(L.LSTM):
    def inner_loop(self, sequences, initial_state, mask, training=False):
        return super().inner_loop(2 * sequences, initial_state, mask, training)


@pytest.mark.parametrize(
    ("layers", "kind", "batch"),
    [
        ([L.LSTM(2)], "onnx", 1),
        ([L.LSTM(2)], "tflite", None),
        ([L.Masking(), L.LSTM(2)], "tflite", 1),
        ([L.LSTM(2, activation="relu")], "tflite", 1),
        ([L.LSTM(2, recurrent_activation="hard_sigmoid")], "tflite", 1),
        ([L.RNN(L.LSTMCell(2))], "tflite", 1),
        ([Own(2)], "tflite", 1),
    ],
)
def test_others_stay_loops(layers, kind, batch):
    found = types(trace(keras.Sequential([keras.Input((5, 3)), *layers]), batch, kind))
    assert FUSED not in found
    assert any("While" in name for name in found)
