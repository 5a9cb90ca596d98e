"""Pruning, clustering and quantization, in any order: zeros and shared values survive training, strip and files."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tfcompress.clustering.kept_values import keep_values
from tfcompress.core.wrapper import wrapped_layers

X = np.random.default_rng(0).normal(size=(16, 6, 6, 2)).astype("float32")
Y = np.arange(16) % 5
STEPS = {
    "prune": lambda model: tfc.prune(model, tfc.ConstantSparsity(0.5, frequency=1)),
    "cluster": lambda model: tfc.cluster(model, 6),
    "quantize": lambda model: tfc.quantize(model, "int8", data=X),
}
ORDERS = list(itertools.permutations(STEPS))


def network():
    keras.utils.set_random_seed(0)
    layers = [L.Conv2D(6, 3, use_bias=False, name="conv"), L.BatchNormalization(), L.ReLU(), L.Flatten(), L.Dense(5)]
    return keras.Sequential([keras.Input((6, 6, 2)), *layers])


@pytest.mark.parametrize("order", [ORDERS[0], *(pytest.param(order, marks=pytest.mark.rare) for order in ORDERS[1:])])
def test_each_keeps_what_the_others_did(order, tmp_path):
    model = network()
    for step in order:
        model = STEPS[step](model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, run_eagerly=ON_TENSORFLOW)
    for _ in range(2):
        model.train_on_batch(X, Y)
    for wrapper in wrapped_layers(model):
        value, encoding = np.asarray(wrapper.transformed()[0]), wrapper.encoded()[0]
        np.testing.assert_array_equal(encoding.decode(), value)
        assert (value == 0).mean() >= 0.5
        assert len(np.unique(encoding.integers)) <= 6 * (encoding.scale.size if encoding.axis else 1)
        assert max(len(np.unique(part)) for part in np.moveaxis(encoding.integers, -1, 0)) <= 6
    for row in tfc.summary(tfc.strip(model)).rows:
        assert not row.weight or row.sparsity >= 0.5
    if not ON_TENSORFLOW:
        return
    for name in ("m.tflite", "m.onnx"):  # each is run and compared before it is kept
        assert not tfc.export(model, tmp_path / name).operators.floats


def test_values_of_a_stripped_model_stay_as_few():
    plain = tfc.strip(tfc.cluster(tfc.prune_once(network(), 0.5), 6))
    model = keep_values(plain, preserve_sparsity=True)
    for wrapper in wrapped_layers(model):
        weights = np.asarray(wrapper.layer.kernel)
        np.testing.assert_array_equal(wrapper.transformed()[0], weights)
        for _, transform in wrapper.transforms:
            if hasattr(transform, "entries"):
                transform.entries.assign(transform.entries * 2)
        seen = np.asarray(wrapper.transformed()[0])
        assert len(np.unique(seen)) == 6
        np.testing.assert_array_equal(seen[weights == 0], 0)


@pytest.mark.parametrize("axis", [None, 1])
def test_a_masked_table_has_a_zero(axis):
    from tfcompress.quantization.encoding import Table

    values = np.float32([[1, 2], [3, 0]]) if axis == 1 else np.float32([1, 2])
    table = Table(np.uint8([[0, 1, 0, 1], [1, 1, 0, 0]]), values, axis)
    kept = np.array([[True, False, True, True], [False, True, True, False]])
    np.testing.assert_array_equal(table.masked(kept).decode(), np.where(kept, table.decode(), 0))
    factor = np.float32([1, 2, -3, 4])
    if axis == 1:  # blocks of two places
        np.testing.assert_array_equal(table.scaled(factor).decode(), table.decode() * factor)
        assert table.block == 2
