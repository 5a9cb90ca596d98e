"""A layer with weights that is called with constants, as one of positions is, stays in the graph and learns."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tfcompress.graph import rebuild

WORDS = np.random.default_rng(0).integers(0, 20, (8, 6)).astype("int32")


class Positions(L.Layer):
    """Words and positions, twice: a layer is called with two constants."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.words, self.places = L.Embedding(20, 8), L.Embedding(6, 8)

    def call(self, x):
        return self.words(x) + self.places(ops.arange(6)) + self.places(ops.arange(6)[::-1])


class Classifier(keras.Model):
    """Likewise in a model, with a Dense that reads a constant of floats."""

    def __init__(self):
        super().__init__()
        self.words, self.places, self.bias, self.head = L.Embedding(20, 8), L.Embedding(6, 8), L.Dense(8), L.Dense(3)

    def call(self, x):
        return self.head(self.words(x) + self.places(np.arange(6)) + self.bias(ops.linspace(0.0, 1.0, 5)[None]))


def layered():
    inputs = keras.Input((6,), dtype="int32")
    return keras.Model(inputs, L.Dense(3)(Positions()(inputs)))


def subclassed():
    model = Classifier()
    model(WORDS)
    return model


@pytest.mark.parametrize("make", [layered, subclassed])
def test_all_weights_are_in_the_graph(make, tmp_path):
    model = make()
    opened = rebuild(model)
    assert len(opened.weights) == len(model.weights)
    np.testing.assert_allclose(opened(WORDS), model(WORDS), atol=1e-6)
    pruned = tfc.prune(model, 0.5)
    before = [keras.ops.convert_to_numpy(weight) for weight in pruned.trainable_weights]
    pruned.compile("sgd", "mse")
    pruned.fit(WORDS, np.ones((8, 6, 3)), verbose=0)
    for old, weight in zip(before, pruned.trainable_weights, strict=True):
        assert np.any(old != keras.ops.convert_to_numpy(weight)), weight.path
    assert tfc.sparsity(pruned) == pytest.approx(0.5, abs=0.02)
    pruned.save(tmp_path / "m.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "m.keras")(WORDS), pruned(WORDS), atol=1e-6)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="exports")
@pytest.mark.parametrize("make", [layered, subclassed])
def test_files_are_the_model(make, tmp_path):
    quantized = tfc.quantize(make(), "int8", data=WORDS)
    for suffix in (".tflite", ".onnx"):
        artifact = tfc.export(quantized, tmp_path / f"m{suffix}", verify=WORDS)
        assert next(iter(artifact.parity.outputs.values())).max_steps <= 1
