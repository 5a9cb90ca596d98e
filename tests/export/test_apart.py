"""Large kernels, kept out of TensorFlow's graphs on their way to ONNX."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf

import tfcompress as tfc
from tfcompress.export import apart
from tfcompress.export.apart import set_apart
from tfcompress.export.runtime import open_runner
from tfcompress.export.tracing import trace

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
    return keras.Model(x, [y, L.Softmax(name="class")(y)])


def names_apart(model):
    traced = trace(model, None)
    made, kernels = set_apart(traced, 0)
    return traced, made, [variable.name.split("/")[-2] for variable in kernels.values()]


def test_a_kernel_with_one_reader_becomes_an_argument():
    model = network()
    traced, made, names = names_apart(model)
    # The normalization becomes part of the first kernel; a transposed convolution's is mapped otherwise, and the
    # shared one has two readers.
    assert names == ["depthwise", "logits"]
    kernels = [model.get_layer(name).kernel.numpy() for name in names]
    received = made(tf.constant(images()), *map(tf.constant, kernels))
    for name, expected in traced.concrete(tf.constant(images())).items():
        np.testing.assert_array_equal(received[name], expected)
    # They are arguments indeed: other ones give other outputs.
    other = made(tf.constant(images()), *(tf.constant(2 * kernel) for kernel in kernels))
    assert all(np.abs(other[name] - received[name]).max() > 0.01 for name in received)


def test_what_reads_a_kernel_otherwise_keeps_it():
    x = keras.Input((4,), dtype="int32")
    y = L.Embedding(9, 6)(x)
    y = L.LSTM(5, return_sequences=True)(y)
    y = L.MultiHeadAttention(2, 3)(y, y)
    traced, made, names = names_apart(keras.Model(x, y))
    assert names == [] and made is traced.concrete


def test_small_kernels_stay():
    traced = trace(network(), None)
    assert set_apart(traced)[1] == {}


@pytest.mark.parametrize("recipe", [None, "int8", "dynamic_int8"])
def test_the_file_is_the_same(recipe, tmp_path, monkeypatch):
    model = network() if recipe is None else tfc.quantize(network(), recipe, images())
    found = []
    for least in (0, 1 << 30):
        monkeypatch.setattr(apart, "LEAST_BYTES", least)
        path = tfc.export(model, tmp_path / f"{least}.onnx").path
        graph = onnx.load(path).graph
        sizes = sorted(len(tensor.raw_data) for tensor in graph.initializer)
        found.append((([node.op_type for node in graph.node], sizes), open_runner(path).predict(images())))
    (content, values), (other_content, other_values) = found
    assert content == other_content
    for value, other in zip(values, other_values, strict=True):
        np.testing.assert_array_equal(value, other)
