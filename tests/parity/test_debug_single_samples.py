"""`tfc.debug` of files that take one sample at a time, of which Keras computes several at once."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.export.models import randomise
from tfcompress.export import export
from tfcompress.parity import debug as debugging
from tfcompress.parity.debug import debug
from tfcompress.parity.probing import tensor_comparison
from tfcompress.quantization.quantize import quantize

X = np.random.default_rng(0).normal(size=(10, 6, 5, 2)).astype("float32")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model with free sizes, and files of it for one sample and for any number."""
    inputs = keras.Input((None, None, 2))
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="head")(layers.GlobalAveragePooling2D(name="mean")(x)))
    quantized = quantize(randomise(model), "int8", X)
    folder = tmp_path_factory.mktemp("single")
    sizes = {"one": 1, "any": None}
    return quantized, {
        name: export(quantized, folder / f"{name}.tflite", batch_size=size, verify=False, names=True)
        for name, size in sizes.items()
    }


def counting(monkeypatch):
    """Return a list that gets the number of samples of each run of a Keras model."""
    runs, run = [], tensor_comparison.outputs_of

    def outputs_of(model, inputs):
        runs.append(len(inputs[0]))
        return run(model, inputs)

    monkeypatch.setattr(tensor_comparison, "outputs_of", outputs_of)
    return runs


def test_keras_computes_them_together(files, monkeypatch):
    model, paths = files
    runs = counting(monkeypatch)
    found = debug(model, paths["one"], X)
    assert runs.count(8) and runs.count(1) == 1 and len(runs) <= 7  # 8 and 2, each twice; one is looked at alone
    every = debug(model, paths["any"], X)
    assert found.samples == every.samples == len(X)
    for one, other in zip(found.tensors, every.tensors, strict=True):
        assert (one.name, one.differs) == (other.name, other.differs)
        assert (one.own_max_steps, one.own_equal) == (other.own_max_steps, other.own_equal)


def test_samples_of_different_sizes(files):
    model, paths = files
    sizes = [X[:3], X[3:4, :5, :4], X[4:6], X[6:8, :5, :4]]
    found = debug(model, paths["one"], sizes)
    assert (found.samples, found.first, found.missing) == (8, None, ())


def test_a_model_that_mixes_samples_gets_them_one_by_one(tmp_path, monkeypatch):
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2, name="head")(keras.ops.cumsum(layers.ReLU()(x), axis=0)))
    file = export(model, tmp_path / "m.onnx", batch_size=1, verify=False)
    data = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    monkeypatch.setattr(debugging.Comparison, "_mixes", lambda *_: False)
    assert debug(model, file, data).first is not None
    monkeypatch.undo()
    assert debug(model, file, data).first is None
