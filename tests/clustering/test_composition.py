"""Pruning, clustering and quantization, in any order: zeros and shared values survive training, strip and files."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import onnx
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tfcompress.clustering.kept_values import keep_values
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.evaluation import tflite_constants

X = np.random.default_rng(0).normal(size=(16, 6, 6, 2)).astype("float32")
Y = np.arange(16) % 5
STEPS = {
    "prune": lambda model, spec: tfc.prune(model, tfc.ConstantSparsity(0.5, frequency=1)),
    "cluster": lambda model, spec: tfc.cluster(model, 6),
    "quantize": lambda model, spec: tfc.quantize(model, tfc.QuantizeConfig(spec), data=X),
}
ORDERS = list(itertools.permutations(STEPS))
RANGES = ("learned", "minmax", "mse")
CASES = list(itertools.product(ORDERS, RANGES))


def network():
    keras.utils.set_random_seed(0)
    layers = [L.Conv2D(6, 3, use_bias=False, name="conv"), L.BatchNormalization(), L.ReLU(), L.Flatten(), L.Dense(5)]
    return keras.Sequential([keras.Input((6, 6, 2)), *layers])


def integers_in(path):
    """Return the integers of each kernel in a file."""
    if path.suffix == ".onnx":
        found = [onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer]
    else:
        found = [one.values for one in tflite_constants.constants(path)]
    return [one for one in found if one.dtype == np.int8 and one.ndim >= 2]


@pytest.mark.parametrize(
    ("order", "range"), [CASES[0], *(pytest.param(*case, marks=pytest.mark.rare) for case in CASES[1:])]
)
def test_each_keeps_what_the_others_did(order, range, tmp_path):
    model = network()
    for step in order:
        model = STEPS[step](model, tfc.WeightSpec(range=range))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, run_eagerly=ON_TENSORFLOW)
    for _ in (0, 1):
        model.train_on_batch(X, Y)
    for wrapper in wrapped_layers(model):
        value, encoding = np.asarray(wrapper.transformed()[0]), wrapper.encoded()[0]
        np.testing.assert_array_equal(encoding.decode(), value)
        assert (value == 0).mean() >= 0.5
        assert len(np.unique(encoding.integers)) <= 6
    for row in tfc.summary(tfc.strip(model)).rows:
        assert not row.weight or (row.sparsity >= 0.5 and row.distinct <= 6)
    if not ON_TENSORFLOW:
        return
    for name in ("m.tflite", "m.onnx"):  # each is run and compared before it is kept
        assert not tfc.export(model, tmp_path / name).operators.floats
        kernels = integers_in(tmp_path / name)
        assert len(kernels) == 2
        assert all(len(np.unique(kernel)) <= 6 and (kernel == 0).mean() >= 0.5 for kernel in kernels)


@pytest.mark.parametrize(
    ("spec", "fields", "axes", "most"),
    [
        (tfc.WeightSpec(), {}, (), 6),
        (tfc.WeightSpec(), {"granularity": "per_channel"}, (3,), 6 * 6),
        (tfc.WeightSpec(), {"granularity": 3}, (), 2 * 6),
        (tfc.WeightSpec(bits=3), {}, (), 6),  # 8 integers for 6 values
        (tfc.WeightSpec(bits=2), {}, (3,), 4),  # as many as there are
    ],
)
@pytest.mark.parametrize("first", ["cluster", "quantize"])
def test_a_kernel_has_one_scale_where_it_has_one_table_of_fewer_values_than_integers(spec, fields, axes, most, first):
    def clustered(model):
        return tfc.cluster(model, 6, layers="conv", **fields)

    def quantized(model):
        return tfc.quantize(model, tfc.QuantizeConfig(spec, None))

    model = quantized(clustered(network())) if first == "cluster" else clustered(quantized(network()))
    encoding = wrapped_layers(model)[0].encoded()[0]
    assert encoding.axis == axes
    assert len(np.unique(encoding.integers)) <= most


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
    assert keep_values(model) is model  # it has its codebooks already
    pruned = tfc.prune_once(network(), 0.9)  # of few values because it has few weights
    assert keep_values(pruned, preserve_sparsity=True) is pruned


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
