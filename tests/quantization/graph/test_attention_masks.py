"""Masks that are added to the scores of a softmax: what is masked widens no range, and the scores keep their steps."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.quantization.imbalance.test_channel_parts import correlation, told
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers

RNG = np.random.default_rng(0)
SEEN = np.tril(np.ones((6, 6), "float32"))[RNG.integers(0, 6, 96)]
X = (2 * RNG.normal(size=(96, 6, 8))).astype("float32")


def attention(scores, given, mask):
    return keras.Model([given, mask], L.Dense(3, name="out")(ops.matmul(ops.softmax(scores), given)))


def scaled(given, mask):
    return attention(L.Dense(6, name="scores")(given) + (1 - mask[:, None, :]) * -1e9, given, mask)


def divided(given, mask):
    return attention((L.Dense(6, name="scores")(given) + (mask[:, None, :] - 1) * 1e4) / 2.0, given, mask)


def chosen(given, mask):
    return attention(ops.where(mask[:, None, :] > 0.5, L.Dense(6, name="scores")(given), -1e9), given, mask)


def twice(given, mask):
    more = (mask[:, None, :] - 1) * 1e5
    return attention(L.Dense(6, name="scores")(given) + (mask[:, None, :] - 1) * 1e9 + more, given, mask)


def shifted(given, mask):  # the mask is an input that holds what is to be added
    return attention(L.Add()([L.Dense(6, name="scores")(given), mask[:, None, :]]), given, mask)


def model_and_data(build):
    keras.utils.set_random_seed(0)
    model = build(keras.Input((6, 8), name="x"), keras.Input((6,), name="mask"))
    return model, [X, (SEEN - 1) * 1e4 if build is shifted else SEEN]


@pytest.mark.parametrize("build", [scaled, divided, chosen, twice, shifted], ids=lambda build: build.__name__)
def test_scores_keep_their_steps(build):
    model, x = model_and_data(build)
    quantized, remarks = told(model, x)
    assert ("adds to scores a mask" in remarks) == (build is not chosen)
    assert correlation(quantized(x, training=False), model(x, training=False)) > 0.99
    assert all(min(quantizer.range) > -200 for quantizer in activation_quantizers(quantized) if quantizer.scores)


def test_both_files_and_training(tmp_path):
    model, x = model_and_data(scaled)
    quantized, _ = told(model, x)
    for suffix in ("tflite", "onnx"):
        parity = tfc.export(quantized, tmp_path / f"m.{suffix}", verify=[part[:16] for part in x]).parity
        assert parity.outputs["out"].max_steps <= 1.01
    untrained, remarks = told(model, None)
    assert "adds to scores a mask" in remarks
    untrained.compile("sgd", "mse")
    untrained.fit(x, np.asarray(model(x)), verbose=0)
    assert all(min(quantizer.range) > -200 for quantizer in activation_quantizers(untrained) if quantizer.scores)


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_a_keras_mask_goes_through_what_stands_for_a_layer_in_a_file(suffix, tmp_path):
    keras.utils.set_random_seed(0)
    ids = np.where(RNG.random((8, 6)) < 0.4, 0, RNG.integers(1, 20, (8, 6))).astype("int32")
    inputs = keras.Input((6,), dtype="int32", name="ids")
    x = L.Embedding(20, 8, mask_zero=True)(inputs)
    x = L.Add()([x, L.Dense(8, name="before")(x)])
    x = L.MultiHeadAttention(2, 4, name="attention")(x, x)
    model = keras.Model(inputs, L.GlobalAveragePooling1D()(L.Dense(2, name="behind")(x)))
    quantized, _ = told(model, ids)
    parity = tfc.export(quantized, tmp_path / f"m.{suffix}", verify=ids, batch_size=8).parity
    assert max(each.max_rel for each in parity.outputs.values()) < 1e-3
