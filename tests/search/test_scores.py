"""What choices are expected to add to the loss: right for a linear model, and in the order of what they do add."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from scipy.stats import spearmanr

import tfcompress as tfc
from tests.search.allocation_models import clusters, images, odd_model, trained_model
from tfcompress.core.transform import read
from tfcompress.graph import LayerChoice, rebuild
from tfcompress.search.allocator import Allocator
from tfcompress.search.changed_kernels import changes, units_of
from tfcompress.search.choices import CHOICES, Choice, base_config
from tfcompress.search.scores import scores

BASE = base_config("int8")


@pytest.mark.on_jax
def test_the_score_of_a_linear_model_is_the_error_of_its_outputs():
    generator = np.random.default_rng(0)
    x = (generator.normal(size=(2048, 6)) @ generator.normal(size=(6, 6))).astype("float32")
    model = keras.Sequential([keras.Input((6,)), L.Dense(3, name="out")])
    flat = rebuild(model)
    (unit,) = units_of(flat, LayerChoice(None))
    choices = [Choice(3), Choice(8, sparsity=0.5), Choice(2, table=True)]
    found, _ = scores(flat, [unit], choices, BASE, x, samples=2048)
    outputs = np.asarray(flat(x))
    for choice in choices:
        change = changes(*unit.kernels[0], [choice], BASE)[0].change
        # Half of the squared error, relative to the variance of the outputs, of correlated inputs too.
        expected = np.mean(np.square(x @ change)) / (2 * outputs.var())
        assert found["out"][choice] == pytest.approx(expected, rel=0.35), str(choice)


def test_rounding_of_activations_counts_where_the_loss_feels_it():
    x = np.random.default_rng(0).normal(size=(256, 8)).astype("float32")
    model = keras.Sequential([keras.Input((8,)), L.Dense(8, name="first"), L.Dense(4, "softmax", name="second")])
    allocator = Allocator(model, x, choices=["float", "int8", "int16x8"], formats="tflite", samples=128)
    flat = rebuild(model)
    weights, _ = scores(flat, units_of(flat, LayerChoice(None)), allocator.choices, BASE, x, samples=128)
    added = {name: allocator.scores[name][Choice(8)] - weights[name][Choice(8)] for name in ("first", "second")}
    assert added["first"] > 0
    # What the rounding of `first` does to the divergence, measured.
    quantized = tfc.quantize(model, "int8", x)
    first = next(one for one in quantized.layers if one.name == "first_quantizer")
    low, high = first.range
    scale = (high - low) / 255
    hidden = np.asarray(keras.Model(model.inputs[0], model.layers[0].output)(x))
    before, after = (np.asarray(model.layers[1](h)) for h in (hidden, np.round(hidden / scale) * scale))
    divergence = float(np.sum(before * np.log(before / after), axis=-1).mean())
    assert added["first"] == pytest.approx(divergence, rel=0.6)
    assert allocator.scores["first"][Choice(16)] == pytest.approx(weights["first"][Choice(16)])


def test_scores_are_in_the_order_of_what_choices_add_to_the_loss():
    model = trained_model()
    x, y = clusters()
    flat = rebuild(model)
    units = units_of(flat, LayerChoice(None))
    choices = [one for one in CHOICES if one.bits in (2, 3, 4)]
    found, _ = scores(flat, units, choices, BASE, x, loss=model.loss)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    before = float(loss(y, flat(x)))
    expected, real = [], []
    for unit in units:
        (variable,), ((layer, position),) = unit.variables, unit.kernels
        kernel = read(variable).copy()
        for choice in choices:
            variable.assign(kernel + changes(layer, position, [choice], BASE)[0].change)
            expected.append(found[unit.name][choice])
            real.append(float(loss(y, flat(x))) - before)
            variable.assign(kernel)
    assert spearmanr(expected, real)[0] > 0.8


def test_shared_layers_and_several_outputs_have_scores_and_nothing_is_changed():
    model = odd_model()
    before = [read(weight).copy() for weight in model.weights]
    flat = rebuild(model)
    units = units_of(flat, LayerChoice(None))
    assert [unit.name for unit in units] == ["conv", "depthwise", "pixels", "shared", "classes", "place"]
    found, stored = scores(flat, units, [Choice(32), Choice(8), Choice(2)], BASE, images())
    for unit in units:
        by_choice = found[unit.name]
        assert 0 == by_choice[Choice(32)] < by_choice[Choice(8)] < by_choice[Choice(2)]
        assert stored[unit.name][Choice(32)] == [None]
        assert stored[unit.name][Choice(2)][0].bits == 2
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, read(weight))


def test_kernels_become_what_the_verbs_make_of_them():
    layer = L.Dense(16, name="dense")
    layer.build((None, 40))
    values = read(layer.kernel).copy()
    pruned = changes(layer, 0, [Choice(8, sparsity=0.75)], BASE)[0]
    assert np.mean(values + pruned.change == 0) >= 0.75
    table = changes(layer, 0, [Choice(3, table=True)], BASE)[0]
    assert len(np.unique(values + table.change)) <= 8
    assert len(np.unique(table.stored.integers)) <= 8 and table.stored.bits == 8
    assert len(np.unique(changes(layer, 0, [Choice(2)], BASE)[0].stored.integers)) <= 3
    np.testing.assert_array_equal(values, read(layer.kernel))


class Tied(L.Layer):
    """Multiplies by the kernel of another layer."""

    def __init__(self, other, **kwargs):
        super().__init__(**kwargs)
        self.other = other

    def call(self, x):
        return keras.ops.matmul(x, self.other.kernel)


def test_layers_that_share_a_weight_get_one_choice():
    first = L.Dense(6, use_bias=False, name="first")
    inputs = keras.Input((6,))
    outputs = L.Dense(2, name="third")(Tied(first, name="second")(first(inputs)))
    units = units_of(keras.Model(inputs, outputs), LayerChoice(None))
    assert [[layer.name for layer in unit.layers] for unit in units] == [["first", "second"], ["third"]]
    assert [len(unit.kernels) for unit in units] == [1, 1]
