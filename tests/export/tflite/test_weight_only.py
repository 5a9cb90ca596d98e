"""Weights in 8 bits with activations in float."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.export.tflite.test_tflite_int8 import images
from tests.export.tiny import bake, constants, convert, kernels, run
from tfcompress.export.plan.scheme import Scheme
from tfcompress.export.tflite.flatbuffer import operators
from tfcompress.export.tflite.to_tflite import to_tflite
from tfcompress.tracing.trace import trace


def materialized(*stack, shape=(8, 8, 4), dtype="float32"):
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *stack])
    for seed, layer in enumerate(model.layers):
        if layer.weights:
            bake(layer, seed)
    return model


def cnn():
    return materialized(
        layers.Conv2D(6, 3, activation="relu"),
        layers.DepthwiseConv2D(3),
        layers.Conv2DTranspose(5, 3),
        layers.Flatten(),
        layers.Dense(10),
    )


@pytest.mark.parametrize("scheme", [Scheme(None), Scheme("dynamic")])
def test_weights_are_the_planned_integers(scheme):
    model = cnn()
    content, floating = convert(model, scheme), to_tflite(trace(model, 1))
    assert len(content) < 0.75 * len(floating)
    kernel = model.layers[0].kernel.numpy()
    found = [entry for entry in constants(content) if entry[0].shape == (6, 3, 3, 4)]
    assert len(found) == 1
    integers, quantization = found[0]
    np.testing.assert_allclose(np.moveaxis(integers, 0, -1) * quantization.scale, kernel, rtol=1e-6, atol=1e-7)
    assert sorted(len(quantization.scale) for _, quantization in constants(content)) == [5, 6, 6, 10]


def test_weight_only_computes_what_the_float_file_does():
    model, samples = cnn(), images()
    content = convert(model, Scheme(None))
    assert set(kernels(content).values()) == {"FLOAT32"}
    assert [op.name for op in operators(content)].count("DEQUANTIZE") == 4
    np.testing.assert_allclose(run(content, samples), run(to_tflite(trace(model, 1)), samples), rtol=1e-5, atol=1e-5)


def test_dynamic_kernels_round_their_input():
    model, samples = cnn(), images()
    content = convert(model, Scheme("dynamic"))
    inputs = {op.name: op.inputs for op in operators(content)}
    assert inputs["CONV_2D"][:2] == inputs["FULLY_CONNECTED"][:2] == ("FLOAT32", "INT8")
    # Slower than float in integers.
    assert inputs["DEPTHWISE_CONV_2D"][:2] == ("FLOAT32", "FLOAT32")
    expected = np.asarray(model(samples[0]))
    got = run(content, samples)
    error = np.linalg.norm(got - expected) / np.linalg.norm(expected)
    assert 1e-5 < error < 0.03


@pytest.mark.parametrize("scheme", [Scheme(None), Scheme("dynamic")])
@pytest.mark.parametrize("layer", [layers.LSTM, layers.GRU])
def test_loops_have_integers_too(scheme, layer):
    model = materialized(layer(6), layers.Dense(3), shape=(5, 4))
    samples = images(shape=(5, 4), n=6)
    content = convert(model, scheme)
    assert len(constants(content)) >= 3
    np.testing.assert_allclose(run(content, samples), np.asarray(model(samples[0])), atol=0.02)


@pytest.mark.parametrize("scheme", [Scheme(None), Scheme("dynamic")])
def test_tables_are_looked_up_in_integers(scheme):
    model = materialized(layers.Embedding(20, 4), layers.Flatten(), layers.Dense(3), shape=(6,), dtype="int32")
    samples = [np.random.default_rng(0).integers(0, 20, (8, 6)).astype("int32")]
    content = convert(model, scheme)
    assert kernels(content)["GATHER"] == "INT8"
    np.testing.assert_allclose(run(content, samples), np.asarray(model(samples[0])), atol=0.02)


def test_grouped_convolutions_in_dynamic_files():
    model, samples = materialized(layers.Conv2D(6, 3, groups=2)), images()
    content = convert(model, Scheme("dynamic"))
    np.testing.assert_allclose(run(content, samples), np.asarray(model(samples[0])), atol=0.05)


def test_what_is_not_on_a_grid_stays_float():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(16), layers.Dense(4)])
    bake(model.layers[1])
    content = convert(model, Scheme(None))
    assert [integers.shape for integers, _ in constants(content)] == [(4, 16)]


def test_tables_with_a_grid_for_each_column():
    model = keras.Sequential([keras.Input((6,), dtype="int32"), layers.Embedding(20, 4)])
    values = np.random.default_rng(0).integers(-127, 128, (20, 4)).astype("float32")
    values[0] = 127
    model.layers[0].embeddings.assign(values * np.float32([0.1, 0.02, 0.3, 1]))
    samples = [np.random.default_rng(1).integers(0, 20, (4, 6)).astype("int32")]
    content = convert(model, Scheme(None))
    assert [len(quantization.scale) for _, quantization in constants(content)] == [4]
    np.testing.assert_allclose(run(content, samples), np.asarray(model(samples[0])), rtol=1e-6)
