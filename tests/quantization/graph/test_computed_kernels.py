"""Layers that compute with a kernel before they use it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import tfcompress as tfc
from tfcompress.graph import rebuild
from tfcompress.quantization.graph.computed_kernels import computing_layers

SIZE = 16


def _per_channel(layer):
    return True


class Own(layers.Layer):
    """A product with what `of` makes of the kernel."""

    def __init__(self, of, **kwargs):
        super().__init__(**kwargs)
        self.of = of

    def build(self, input_shape):
        self.w = self.add_weight(shape=(SIZE, SIZE), name="w", initializer=keras.initializers.RandomNormal(seed=3))
        self.other = self.add_weight(shape=(SIZE, SIZE), name="other", initializer="glorot_uniform")
        self.gain = self.add_weight(shape=(SIZE,), name="gain", initializer="ones")

    def call(self, x):
        return ops.matmul(x, self.of(self))


class Standardized(layers.Conv2D):
    def call(self, x):
        mean, variance = tf.nn.moments(self.kernel, axes=[0, 1, 2], keepdims=True)
        return tf.nn.conv2d(x, (self.kernel - mean) / tf.sqrt(variance + 1e-10), 1, "SAME") + self.bias


class OfOperation(layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        mean, variance = ops.moments(kernel, axes=(0, 1, 2), keepdims=True)
        return super().convolution_op(inputs, (kernel - mean) / ops.sqrt(variance + 1e-10))


class Replaced(layers.Conv2D):
    def call(self, x):
        kernel = self._kernel
        self._kernel = kernel - ops.mean(kernel, axis=(0, 1, 2))
        try:
            return super().call(x)
        finally:
            self._kernel = kernel


class Traced(layers.Dense):
    @tf.function
    def product(self, x):
        return tf.matmul(x, self.kernel - tf.reduce_mean(self.kernel, 0))

    def call(self, x):
        return self.product(x)


class Centred(layers.Dense):
    def call(self, x):
        return ops.matmul(x, self.kernel - ops.mean(self.kernel, axis=0))


class Squared(layers.Dense):
    """A factorization machine."""

    def call(self, x):
        return ops.square(ops.matmul(x, self.kernel)) - ops.matmul(ops.square(x), ops.square(self.kernel))


class Penalized(layers.Dense):
    def call(self, x):
        self.add_loss(ops.sum(ops.square(self.kernel)))
        return super().call(x)


TRIANGLE = np.triu(np.ones((SIZE, SIZE), "float32"))
COMPUTED = {
    "masked": Own(lambda one: one.w * TRIANGLE),
    "standardized": Own(lambda one: (one.w - ops.mean(one.w, axis=0)) / ops.std(one.w, axis=0)),
    "normalized_rows": Own(lambda one: ops.transpose(ops.normalize(one.w, axis=1))),
    "of_rank_two": Own(lambda one: ops.matmul(one.w, one.other)),
    "softmaxed": Own(lambda one: ops.softmax(one.w, axis=0)),
    "joined_rows": Own(lambda one: ops.concatenate([one.w, one.other])[::2]),
    "squared": Squared(SIZE),
    "traced": Traced(SIZE),
}
USED = {
    "plain": Own(lambda one: one.w),
    "turned": Own(lambda one: ops.transpose(one.w)),
    "shaped": Own(lambda one: ops.squeeze(ops.reshape(one.w, (1, SIZE, SIZE)), 0)),
    "scaled": Own(lambda one: one.w * 0.25),
    "weight_normalized": Own(lambda one: one.gain * one.w / ops.norm(one.w, axis=0)),
    "spectral": Own(lambda one: one.w / ops.sqrt(ops.sum(ops.square(ops.matmul(one.gain[None], one.w))))),
    "joined_columns": Own(lambda one: ops.concatenate([one.w, one.other], axis=1)[:, :SIZE]),
    "penalized": Penalized(SIZE),
}


def test_kernels_that_are_computed_with_are_found():
    images, vectors = keras.Input((4, 4, 2), name="images"), keras.Input((SIZE,), name="vectors")
    named = {}
    for name, layer in {**COMPUTED, **USED}.items():
        named[name] = type(layer)(*([layer.of] if isinstance(layer, Own) else [SIZE]), name=name)
    convolutions = [
        cls(2, 3, padding="same", name=f"conv_{cls.__name__.lower()}") for cls in (Standardized, OfOperation, Replaced)
    ]
    outputs = [*(one(vectors) for one in named.values()), *(one(images) for one in convolutions)]
    model = rebuild(keras.Model([images, vectors], outputs), check=False)
    found = computing_layers(model, _per_channel, lambda layer: True)
    assert set(found) == {*COMPUTED, *(one.name for one in convolutions)}
    assert "weight_normalized" in computing_layers(
        model, lambda layer: False, lambda layer: True
    )  # one scale for all channels
    assert computing_layers(model, _per_channel, lambda layer: layer.name == "plain") == {}


class OfConstants(keras.Model):
    """Features of all nodes are constants; what is asked for is which nodes."""

    def __init__(self):
        super().__init__()
        self.features, self.layer = np.ones((4, SIZE), "float32"), Own(lambda one: one.w, name="plain")

    def call(self, nodes):
        return ops.take(self.layer(self.features), nodes, axis=0)


def test_data_may_be_constant():
    model = OfConstants()
    model(np.zeros((2, 1), "int32"))
    assert computing_layers(rebuild(model, check=False), _per_channel, lambda layer: True) == {}


class Held(keras.Model):
    """Masks a weight of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.last = layers.Dense(SIZE, activation="relu"), layers.Dense(3)
        self.w = self.add_weight(shape=(SIZE, SIZE), name="w", initializer="glorot_uniform")

    def call(self, x):
        return self.last(ops.relu(ops.matmul(self.first(x), self.w * TRIANGLE)))


def images():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    x = layers.ReLU()(Standardized(8, 3, name="odd")(x))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))), (6, 6, 3)


def held():
    model = Held()
    model(np.zeros((1, 8), "float32"))
    return model, (8,)


@pytest.mark.parametrize(("make", "name", "suffix"), [(images, "odd", "tflite"), (held, "w", "onnx")])
def test_what_computes_with_its_kernel_stays_float(make, name, suffix, tmp_path):
    keras.utils.set_random_seed(0)
    model, shape = make()
    x = np.random.default_rng(0).normal(size=(16, *shape)).astype("float32")
    pruned = tfc.prune_once(model, 0.5)
    with pytest.warns(UserWarning, match=rf"^Layer '{name}' stays float: its `call` computes with the kernel first"):
        quantized = tfc.quantize(pruned, data=x)
    (row,) = [row for row in tfc.summary(quantized).rows if row.layer == name]
    assert (row.status, row.fallback, row.bits) == ("float: its call computes with the kernel first", True, 32)
    assert row.sparsity == pytest.approx(0.5, abs=0.01)
    artifact = tfc.export(quantized, tmp_path / f"m.{suffix}", verify=x)
    assert {one.kind for one in artifact.operators.floats} <= {"CONV_2D", "MatMul", "Max"}
    assert artifact.operators.integer >= 2


def test_nothing_else_to_quantize():
    model = keras.Sequential([keras.Input((SIZE,)), Own(lambda one: one.w * TRIANGLE, name="odd")])
    assert tfc.quantize(model, "int8_weights").count_params() > 0  # it has another kernel
    model = keras.Sequential([keras.Input((SIZE,)), Centred(3, use_bias=False, name="odd")])
    with pytest.raises(ValueError, match=r"each layer with a kernel that is meant \('odd'\) computes with it first"):
        tfc.quantize(model)


def test_a_kernel_that_is_turned_first_is_stored_in_8_bits(tmp_path):
    turned = Own(lambda one: ops.transpose(one.w), name="turned")
    model = keras.Sequential([keras.Input((SIZE,)), layers.Dense(SIZE, activation="relu"), turned, layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(16, SIZE)).astype("float32")
    quantized = tfc.quantize(model, data=x)
    tfc.export(quantized, tmp_path / "m.tflite", verify=x)  # which refuses weights that are float in the file
