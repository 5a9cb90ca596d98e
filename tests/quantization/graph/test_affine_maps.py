"""Affine maps that are not folded: the simulation rounds what the files round, or they stay float and say so."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import but_rare, outputs_of
from tfcompress.core.passthrough import PassThrough
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.runtime.opening import open_runner

SIZES = np.float32([1e-3, 1e-2, 1, 1, 30, 30])
"""Of the channels before the map."""


def batch_norm(mean, variance, gamma=1.0, beta=0.0):
    layer = L.BatchNormalization(epsilon=1e-12, name="map")
    layer.build((None, 2, 2, len(SIZES)))
    values = {"moving_mean": mean, "moving_variance": variance, "gamma": gamma, "beta": beta}
    for name, value in values.items():
        getattr(layer, name).assign(np.broadcast_to(np.float32(value), SIZES.shape))
    return layer


def normalization(x):
    return L.Normalization(mean=SIZES.tolist(), variance=np.square(SIZES).tolist(), name="map")(x)


FORMS = {
    "normalization": normalization,
    "batch normalization": batch_norm(SIZES, SIZES**2),
    "negative": lambda x: L.ReLU()(batch_norm(SIZES, SIZES**2, gamma=[1, -1, 1, -1, 1, -1])(x)),
    "zero": batch_norm(SIZES, SIZES**2, gamma=[0, 1, 0, 1, 0, 1], beta=[1e-3, 2e-3, 3, 4, 5, 6]),
    "two": lambda x: L.Rescaling([2.0, 1, 1, 3, 1, 1], [0.1, -0.2, 0.3, 1, 0, 0])(batch_norm(SIZES, SIZES**2)(x)),
    "operations": lambda x: (x - SIZES) / SIZES,
    "scalar": L.Rescaling(1 / 30, -0.5),
    "array": L.Rescaling((1 / SIZES).tolist(), (-3 / SIZES).tolist()),
    "hard sigmoid": L.Activation("hard_sigmoid"),
}
FAR = {
    "offset": batch_norm(1e6, 1.0),
}


def between(make):
    """Return a map between integer tensors, none of them folded, data, and the float model."""
    x = inputs = keras.Input((2, 2, len(SIZES)), name="x")
    x = L.ReLU()(L.Rescaling(SIZES.tolist(), name="sizes")(L.Add()([x, x])))
    # Outputs whose channels differ so much in size would stay float.
    model = keras.Model(inputs, L.Conv2D(len(SIZES), 1, name="behind")(make(x)))
    return model, np.random.default_rng(0).normal(size=(32, 2, 2, len(SIZES))).astype("float32")


def most_steps(quantized, x, folder):
    """Return by how many steps the outputs of the two files differ from those of Keras."""
    expected = outputs_of(quantized, x)
    last = activation_quantizers(quantized)[-1]
    found = []
    for suffix in ("tflite", "onnx"):
        tfc.export(quantized, folder / f"m.{suffix}", verify=x[:2])
        runner = open_runner(folder / f"m.{suffix}")
        got = np.concatenate([runner.predict(one[None]) for one in x])
        found.append(np.abs(got - expected).max() / last.spec.scale(*last.range))
    return max(found)


# What is rare is a part of another, or one number in place of several.
@pytest.mark.parametrize("name", but_rare(FORMS, ("batch normalization", "scalar", "array")))
def test_both_files_compute_the_same(name, tmp_path):
    model, x = between(FORMS[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        quantized = tfc.quantize(model, "int8", x)
    assert not tfc.summary(quantized).fallbacks
    assert most_steps(quantized, x, tmp_path) < 0.01


@pytest.mark.parametrize("name", ["offset"])
def test_what_is_too_large_stays_float(name, tmp_path):
    model, x = between(FAR[name])
    with pytest.warns(UserWarning, match="stays float: its scale or offset is too large"):
        quantized = tfc.quantize(model, "int8", x)
    assert len(tfc.summary(quantized).fallbacks) == 1
    assert most_steps(quantized, x, tmp_path) < 0.01


def test_it_is_saved_trained_and_stripped(tmp_path):
    model, x = between(FORMS["batch normalization"])
    quantized = tfc.quantize(model, "int8", x)
    quantized.compile("sgd", "mse")
    quantized.fit(x, x, epochs=1, verbose=0)
    quantized.save(tmp_path / "q.keras")
    again = keras.models.load_model(tmp_path / "q.keras")
    np.testing.assert_array_equal(outputs_of(again, x), outputs_of(quantized, x))
    assert most_steps(again, x, tmp_path) < 0.01
    kinds = {type(layer) for layer in tfc.strip(again).layers}
    assert L.BatchNormalization in kinds and not any(issubclass(kind, PassThrough) for kind in kinds)


def test_a_chain_of_maps_behind_a_kernel_is_rounded_as_one(tmp_path):
    inputs = keras.Input((4,), name="x")
    x = L.Rescaling(0.01, 3.0)(L.Rescaling([1.0, 100, 1, 50, 2, 3], [5.0, 1, 2, 3, 4, 7])(L.Dense(6)(inputs)))
    model = keras.Model(inputs, L.Dense(3)(x))
    data = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    assert most_steps(tfc.quantize(model, "int8", data), data, tmp_path) < 0.01
