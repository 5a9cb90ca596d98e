"""Layers of one's own: what is read of their `call`, and what a trial finds."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tests.precision.networks import DTYPE, HALF, floats
from tfcompress.graph.rewrite import calls
from tfcompress.precision import float32_rule
from tfcompress.precision.custom_calls import operations_in_half

pytestmark = pytest.mark.filterwarnings("ignore:mixed_float16 is slow on a CPU:UserWarning")


class Scaled(L.Layer):
    """With a weight; `compute` is what the call returns."""

    def __init__(self, compute=None, **kwargs):
        super().__init__(**kwargs)
        self.compute = compute

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="ones", name="w")

    def call(self, x):
        return self.compute(self, x) * self.w

    def get_config(self):
        return {**super().get_config(), "compute": self.compute}


def pooled(layer, x):
    return ops.sum(ops.softmax(x, axis=-1) * x, axis=-1, keepdims=True) + x


def normalized(layer, x):
    return x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-6)


def carefully_normalized(layer, x):
    y = ops.cast(x, "float32")
    return x * ops.cast(ops.rsqrt(ops.mean(ops.square(y), axis=-1, keepdims=True) + 1e-6), layer.compute_dtype)


def plain(layer, x):
    return ops.relu(x) + 1.0


def unreadable(layer, x):
    return ops.convert_to_tensor(x) if keras.utils.is_keras_tensor(x) else ops.exp(x * 0.1)


def between(layer):
    inputs = keras.Input((8,))
    return keras.Model(inputs, L.Dense(2, name="last")(layer(L.Dense(8, name="first")(inputs))))


@pytest.mark.parametrize(
    ("compute", "why"),
    [
        (pooled, "its call holds s"),  # a sum, or a softmax
        (normalized, "its call holds rsqrt"),
        (carefully_normalized, ""),
        (plain, ""),
        (unreadable, ""),
    ],
)
def test_what_the_call_computes(compute, why):
    model = between(Scaled(compute, name="mine"))
    mixed = tfc.mixed_precision(model, HALF)
    row = next(row for row in tfc.explain(mixed).rows if row.layer == "mine")
    assert row.why.startswith(why)
    assert row.precision == ("float32" if why else DTYPE)
    assert mixed.get_layer("first").compute_dtype == DTYPE


def test_reading_leaves_nothing_behind():
    model = between(Scaled(normalized, name="mine"))
    layer = model.get_layer("mine")
    call = next(call for call in calls(model) if call.operation is layer)
    before = dict(vars(layer)), len(layer._inbound_nodes), len(layer._outbound_nodes)
    found = [type(one.operation).__name__ for one in operations_in_half(layer, call, DTYPE)]
    assert sorted(found) == ["Add", "Mean", "Multiply", "Multiply", "Rsqrt", "Square"]
    assert (dict(vars(layer)), len(layer._inbound_nodes), len(layer._outbound_nodes)) == before
    assert layer.compute_dtype == "float32"


def test_a_constant_that_float16_cannot_hold():
    model = between(Scaled(lambda layer, x: x + (1.0 - ops.relu(x)) * 1e-9 * -1e9, name="mine"))
    found = {row.layer: row.why for row in tfc.explain(tfc.mixed_precision(model, "mixed_bfloat16")).rows}
    assert found["mine"] == ""
    graph = calls(model)
    kept = float32_rule.reasons(model, float32_rule.named(None), "mixed_float16")
    assert float32_rule.CONSTANT in kept[id(graph[1].operation)]


class Penalty(L.Layer):
    def __init__(self, wide=False, **kwargs):
        super().__init__(**kwargs)
        self.wide = wide

    def call(self, x):
        self.add_loss(1e-3 * ops.mean(ops.cast(x, "float32") if self.wide else x))
        return x

    def get_config(self):
        return {**super().get_config(), "wide": self.wide}


@pytest.mark.on_jax
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("pruned", [False, True])
def test_a_layer_that_adds_a_loss(wide, pruned):
    model = keras.Sequential([keras.Input((8,)), L.Dense(4), Penalty(wide, name="penalty"), L.Dense(2)])
    mixed = tfc.mixed_precision(tfc.prune(model, 0.5) if pruned else model, HALF)
    assert mixed.get_layer("penalty").compute_dtype == (DTYPE if wide else "float32")
    x = floats(8, 8)
    mixed(x)
    assert [keras.backend.standardize_dtype(loss.dtype) for loss in mixed.losses] == ["float32"]
    mixed.compile(keras.optimizers.SGD(0.01), "mse")
    assert np.isfinite(mixed.fit(x, np.zeros((8, 2)), verbose=0).history["loss"][0])


class Noisy(L.Layer):
    """Float32 noise in training: fails there with 16-bit inputs, and there alone."""

    def call(self, x, training=None):
        return x + keras.random.normal(ops.shape(x), dtype="float32") if training else x


@pytest.mark.on_jax
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX promotes")
def test_a_layer_that_fails_in_training_alone():
    model = between(Noisy(name="noisy"))
    with pytest.warns(UserWarning, match="'noisy' of class Noisy stays float32"):
        mixed = tfc.mixed_precision(model, HALF)
    assert mixed.get_layer("noisy").compute_dtype == "float32"
    mixed.compile(keras.optimizers.SGD(0.01), "mse")
    mixed.fit(floats(8, 8), np.zeros((8, 2)), verbose=0)


def test_a_function_sees_the_layer_and_not_its_wrapper():
    model = between(L.ReLU())
    seen = []

    def dense(layer):
        seen.append(type(layer).__name__)
        return isinstance(layer, L.Dense)

    for given in (model, tfc.prune(model, 0.5)):
        mixed = tfc.mixed_precision(given, HALF, keep_float32=dense)
        first = mixed.get_layer("first")
        assert getattr(first, "innermost", first).compute_dtype == "float32"
    with pytest.raises(ValueError, match="`keep_float32` to choose layers.*false of all"):
        tfc.mixed_precision(model, HALF, keep_float32=lambda layer: False)
    assert "Dense" in seen
