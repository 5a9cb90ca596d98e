"""Large kernels, kept out of TensorFlow's graphs on their way to ONNX."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf

import tfcompress as tfc
from tfcompress.export.onnx import large_constants as apart
from tfcompress.export.onnx.large_constants import detach_large
from tfcompress.runtime.opening import open_runner
from tfcompress.tracing.trace import trace

L = keras.layers


def images(count=8):
    return np.random.default_rng(0).normal(size=(count, 9, 9, 3)).astype("float32")


def network():
    keras.utils.set_random_seed(0)
    x = keras.Input((9, 9, 3), name="image")
    y = L.Conv2D(8, 3, name="conv")(x)
    y = L.BatchNormalization(name="norm")(y)
    y = L.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(y)
    y = L.Conv2DTranspose(4, 2, name="transposed")(y)
    y = L.Flatten()(y)
    shared = L.Dense(y.shape[-1], name="shared")
    y = L.Dense(5, name="logits")(shared(shared(y)))
    model = keras.Model(x, [y, L.Softmax(name="class")(y)])
    for weight in model.get_layer("norm").weights:  # else TensorFlow drops an offset of zero
        weight.assign(np.linspace(0.5, 1.5, 8))
    return model


def names_apart(model):
    traced = trace(model, None)
    made, apart = detach_large(traced, 100)
    sources = [constant.source for constant in apart.values()]
    return traced, made, apart, [getattr(source, "path", source.name).split("/")[-2] for source in sources]


def test_what_is_large_becomes_an_argument():
    model = network()
    traced, made, constants, names = names_apart(model)
    assert set(names) == {"conv", "depthwise", "logits", "shared", "transposed"}
    values = [constant.value() for constant in constants.values()]
    received = made(tf.constant(images()), *map(tf.constant, values))
    for name, expected in traced.concrete(tf.constant(images())).items():
        np.testing.assert_allclose(received[name], expected, rtol=1e-5, atol=1e-6)
    # They are arguments indeed: other ones give other outputs.
    other = made(tf.constant(images()), *(tf.constant(2 * value) for value in values))
    assert all(np.abs(other[name] - received[name]).max() > 0.01 for name in received)


def sequence():
    x = keras.Input((4,), dtype="int32")
    y = L.Embedding(9, 6, name="table")(x)
    y = L.Conv1D(6, 2, padding="same", name="conv")(y)
    y = L.MultiHeadAttention(2, 3, name="attention")(y, y)
    return keras.Model(x, L.GRU(5, name="gru")(y))


def test_what_is_computed_of_weights_alone_is_one_constant():
    traced, made, constants, _ = names_apart(sequence())
    shapes = sorted(constant.value().shape for constant in constants.values())
    # A table, the kernel of the convolution as one of two dimensions, four matrices.
    assert (9, 6) in shapes and (1, 2, 6, 6) in shapes and shapes.count((6, 6)) == 4
    ids = tf.constant([[1, 8, 0, 3], [5, 5, 2, 7]])
    received = made(ids, *(tf.constant(constant.value()) for constant in constants.values()))
    for name, expected in traced.concrete(ids).items():
        np.testing.assert_allclose(received[name], expected, rtol=1e-5, atol=1e-6)


def scaled(kind):
    x = keras.Input((5, 5, 4))
    conv = L.Conv2D(6, 3, use_bias=kind == "bias", name="conv")
    y = conv(x)
    y = L.BatchNormalization(name="norm")(y) if kind != "branch" else L.Add()([L.Rescaling(0.5)(y), y])
    model = keras.Model(x, y)
    for weight in model.variables:
        zero = "bias" in weight.path
        weight.assign(0 * weight if zero else np.random.default_rng(0).uniform(0.5, 1.5, weight.shape))
    return model


@pytest.mark.parametrize(("kind", "factors"), [("plain", 0), ("bias", 0), ("branch", 1)])
def test_a_factor_becomes_part_of_the_kernel_as_before(kind, factors, tmp_path, monkeypatch):
    found = []
    for least in (100, 1 << 30):
        monkeypatch.setattr(apart, "LEAST_BYTES", least)
        path = tfc.export(scaled(kind), tmp_path / f"{least}.onnx").path
        nodes = [node.op_type for node in onnx.load(path).graph.node]
        found.append((nodes, open_runner(path).predict(np.ones((2, 5, 5, 4), "float32"))))
    assert found[0][0] == found[1][0]
    assert found[0][0].count("Mul") == factors
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-6)


def test_small_kernels_stay():
    traced = trace(network(), None)
    assert {constant.source.name for constant in detach_large(traced)[1].values()} == {"shared/kernel:0"}


@pytest.mark.parametrize("recipe", [None, "int8", "dynamic_int8"])
def test_the_file_is_the_same(recipe, tmp_path, monkeypatch):
    model = network() if recipe is None else tfc.quantize(network(), recipe, images())
    found = []
    for least in (100, 1 << 30):
        monkeypatch.setattr(apart, "LEAST_BYTES", least)
        path = tfc.export(model, tmp_path / f"{least}.onnx").path
        graph = onnx.load(path).graph
        sizes = sorted(len(tensor.raw_data) for tensor in graph.initializer)
        found.append((([node.op_type for node in graph.node], sizes), open_runner(path).predict(images())))
    (content, values), (other_content, other_values) = found
    assert content == other_content
    for value, other in zip(values, other_values, strict=True):
        np.testing.assert_array_equal(value, other)
