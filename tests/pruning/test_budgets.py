"""Budgets of all layers together, sparsities of their own, and regrowth."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW, gathered, in_turn
from tfcompress.channels.costs import total_multiply_adds, uses
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.graph import rebuild
from tfcompress.pruning import PruneConfig


def numpy(variable):
    return keras.ops.convert_to_numpy(variable.value)


def small(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            L.Conv2D(4, 3, name="conv"),
            L.Flatten(name="flat"),
            L.Dense(10, name="dense"),
            L.Dense(3, name="head"),
        ],
        name="small",
    )


def cost(model, prices):
    return sum(
        np.count_nonzero(numpy(model.get_layer(name).weights[at])) * price for (name, at), price in prices.items()
    )


@pytest.mark.parametrize("layers", [None, ["conv", "dense"]])
def test_a_budget_of_multiplications_is_met_by_the_least_important_for_what_they_cost(layers):
    model = small()
    prices = uses(model)
    assert prices == {("conv", 0): 36, ("dense", 0): 1, ("head", 0): 1}
    pruned = tfc.prune_once(model, 0.5, scope="flops", layers=layers)
    share = cost(pruned, prices) / cost(model, prices)
    assert 0.5 - 36 / cost(model, prices) <= share <= 0.5  # a weight of the convolution costs 36
    if layers:
        assert tfc.summary(pruned).sparsities["head/kernel"] == 0
    values = np.concatenate(
        [np.abs(numpy(model.get_layer(n).kernel)).ravel() for n in layers or ("conv", "dense", "head")]
    )
    kept = np.concatenate([numpy(pruned.get_layer(n).kernel).ravel() for n in layers or ("conv", "dense", "head")]) != 0
    assert values[kept].min() >= values[~kept].max()


def test_a_budget_of_bytes_is_that_of_all_weights():
    pruned = tfc.prune_once(small(), 0.25, scope="bytes")
    assert abs(tfc.sparsity(pruned) - 0.25) < 1e-3
    np.testing.assert_array_equal(
        numpy(pruned.get_layer("dense").kernel),
        numpy(tfc.prune_once(small(), 0.25, scope="global").get_layer("dense").kernel),
    )


def test_a_budget_that_cannot_be_met_is_refused():
    with pytest.raises(ValueError, match="at most 0.* with scope='flops'.*Take less, or more layers"):
        tfc.prune_once(small(), 0.9, scope="flops", layers="head")


def test_layers_reach_sparsities_of_their_own():
    found = tfc.summary(tfc.prune_once(small(), 0.5, allocation={"dense": 0.9, "head": 0.2})).sparsities
    assert found == pytest.approx({"conv/kernel": 0.5, "dense/kernel": 0.9, "head/kernel": 0.2}, abs=0.02)
    spread = tfc.prune_once(small(), 0.8, allocation="erdos_renyi_kernel")
    assert abs(tfc.sparsity(spread) - 0.8) < 0.01
    each = tfc.summary(spread).sparsities
    assert each["dense/kernel"] > 0.8 > each["head/kernel"]


def test_random_graphs_of_attention_count_inputs_and_outputs_and_not_heads_and_width():
    inputs = keras.Input((5, 64))
    attention = L.MultiHeadAttention(4, 8, output_shape=16, name="mha")(inputs, inputs)
    model = keras.Model(inputs, L.Conv1D(10, 3, name="conv")(attention))
    # Inputs and outputs, and for the convolution its length: 64 -> 4 * 8, 4 * 8 -> 16.
    shapes = {**dict.fromkeys(("mha_query", "mha_key", "mha_value"), (64, 32)), "mha_attention_output": (32, 16)}
    shapes["conv"] = (3, 16, 10)
    for targets, of in [
        ("erdos_renyi", lambda shape: sum(shape[-2:]) / np.prod(shape[-2:])),
        ("erdos_renyi_kernel", lambda shape: sum(shape) / np.prod(shape)),
    ]:
        found = tfc.prune_once(model, 0.8, allocation=targets)
        raw = {name: of(shape) for name, shape in shapes.items()}
        whole = sum(np.prod(shape) for shape in shapes.values())
        scale = 0.2 * whole / sum(raw[name] * np.prod(shape) for name, shape in shapes.items())
        assert max(raw.values()) * scale < 1
        for name in shapes:
            density = np.mean(numpy(found.get_layer(name).kernel) != 0)
            assert density == pytest.approx(raw[name] * scale, abs=2e-3), name


def test_what_is_looked_up_costs_no_multiplications_and_stays():
    words = keras.Input((9,), dtype="int32")
    model = keras.Model(words, L.Dense(2, name="head")(L.Flatten()(L.Embedding(20, 6, name="words")(words))))
    with pytest.warns(UserWarning, match="In layer 'words' zeros save no multiplications"):
        pruned = tfc.prune_once(model, 0.5, scope="flops")
    assert tfc.summary(pruned).sparsities == {"words/embeddings": 0.0, "head/kernel": 0.5}
    with pytest.raises(ValueError, match="kernels that are multiplied.*'words' of class Embedding.*scope='bytes'"):
        tfc.prune_once(model, 0.5, scope="flops", layers="words")
    with pytest.raises(ValueError, match="none of layers=.*'w.*' has a kernel that is multiplied"):
        tfc.prune_once(model, 0.5, scope="flops", layers="w.*")


def test_products_of_attention_are_part_of_the_whole():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((10, 8))
    model = keras.Model(inputs, L.Dense(4, name="head")(L.MultiHeadAttention(2, 4, name="mha")(inputs, inputs)))
    kernels, products = 10 * (4 * 8 * 8 + 8 * 4), 10 * 10 * 8 * 2
    assert total_multiply_adds(rebuild(model)) == kernels + products
    pruned = tfc.prune_once(model, 0.5, scope="flops")
    left = 10 * sum(np.count_nonzero(numpy(layer.kernel)) for layer in pruned.layers if hasattr(layer, "kernel"))
    assert left + products == pytest.approx(0.5 * (kernels + products), abs=10)
    with pytest.raises(ValueError, match="at most 0.643 with scope='flops'"):
        tfc.prune_once(model, 0.7, scope="flops")


@pytest.mark.parametrize(("scope", "granularity"), in_turn(["global", "flops", "bytes"], ["element", tfc.Block(2, 2)]))
def test_each_kernel_keeps_one_unit_and_that_is_said(scope, granularity):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), L.Dense(8, name="faint"), L.Dense(8, name="loud")])
    faint, loud = (layer.kernel for layer in model.layers)
    faint.assign(numpy(faint) * 1e-3)
    schedule = tfc.PolynomialSparsity(0.0, 0.5, begin_step=0, end_step=2, frequency=1)
    pruned = tfc.prune(model, PruneConfig(schedule, scope=scope, granularity=granularity))
    pruned.compile(keras.optimizers.SGD(0.0), "mse")
    pruned.fit(np.ones((12, 8)), np.ones((12, 8)), batch_size=4, verbose=0)
    word = "weight" if granularity == "element" else "block"
    with pytest.warns(UserWarning, match=f"leaves one {word} of layer 'faint'. Take"):
        found = tfc.strip(pruned)
    size, rest = (1, 63) if granularity == "element" else (4, 60)

    def units(kernel):
        side = 8 if granularity == "element" else 4
        return np.abs(kernel).reshape(side, 8 // side, side, 8 // side).mean(axis=(1, 3))

    kept = [units(numpy(found.get_layer(name).kernel)) > 0 for name in ("faint", "loud")]
    np.testing.assert_array_equal(kept[0], units(numpy(faint)) == units(numpy(faint)).max())
    np.testing.assert_array_equal(kept[1], units(numpy(loud)) > units(numpy(loud)).min())
    assert (kept[0].sum() * size, kept[1].sum() * size) == (size, rest)


@pytest.mark.on_jax
def test_regrowth_leaves_each_kernel_a_weight():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), L.Dense(8, name="faint"), L.Dense(8, name="loud")])
    model.get_layer("faint").kernel.assign(numpy(model.get_layer("faint").kernel) * 1e-3)
    schedule = tfc.Regrowth(0.5, drop_fraction=0.5, begin_step=1, end_step=9, frequency=1)
    pruned = tfc.prune(model, PruneConfig(schedule, scope="global"))
    pruned.compile(keras.optimizers.SGD(0.0), "mse")
    for _ in range(4):
        pruned.train_on_batch(np.ones((4, 8)), np.ones((4, 8)))
        masks = [numpy(layer.transforms[0][1].mask) for layer in wrapped_layers(pruned)]
        assert masks[0].sum() >= 1
        assert sum(mask.sum() for mask in masks) == 64


def test_a_rising_schedule_ends_at_each_layers_own():
    schedule = tfc.PolynomialSparsity(0.0, 0.5, 0, 4, frequency=2)
    pruned = tfc.prune(small(), PruneConfig(schedule, allocation={"dense": 0.8}))
    pruned.compile("sgd", "mse")
    pruned.fit(np.ones((12, 8, 8, 2)), np.ones((12, 3)), batch_size=2, verbose=0)
    assert tfc.summary(pruned).sparsities["dense/kernel"] == pytest.approx(0.8, abs=0.001)
    assert tfc.summary(pruned).sparsities["conv/kernel"] == 0.5


def test_bad_targets_are_refused():
    for refused, words in [
        (
            lambda: tfc.prune(small(), PruneConfig(0.5, allocation={"dens": 0.9})),
            "'dens', which is none. Did you mean 'dense'",
        ),
        (lambda: PruneConfig(0.5, allocation={"dense": 1.0}), r"Received: 1.0 for layer 'dense'"),
        (lambda: PruneConfig(0.5, allocation="even"), "'erdos_renyi'"),
        (lambda: PruneConfig(0.5, allocation={"dense": 0.9}, scope="global"), "scope='global'"),
        (lambda: tfc.prune(small(), PruneConfig(0.0, allocation={"dense": 0.9})), "ends above 0"),
    ]:
        with pytest.raises(ValueError, match=words):
            refused()


@pytest.mark.on_jax
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_regrowth_exchanges_the_smallest_for_those_with_the_largest_gradient(scope):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((20,)), L.Dense(10, use_bias=False, name="dense")])
    schedule = tfc.Regrowth(0.8, drop_fraction=0.5, begin_step=1, end_step=100, frequency=1)
    pruned = tfc.prune(model, PruneConfig(schedule, scope=scope))
    pruned.compile(keras.optimizers.SGD(0.01), "mse")
    wrapper = wrapped_layers(pruned)[0]
    mask = wrapper.transforms[0][1]
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(16, 20)), generator.normal(size=(16, 10))
    pruned.train_on_batch(x, y)
    before, kernel, slopes = numpy(mask.mask), numpy(wrapper.layer.kernel), gathered(mask, "gradient")
    assert before.sum() == 40
    pruned.train_on_batch(x, y)
    after = numpy(mask.mask)
    assert after.sum() == 40
    dropped = round(40 * float(schedule.regrown(1)))
    smallest = np.sort(np.abs(kernel[before]))[dropped]
    survivors = before & (np.abs(kernel) >= smallest)
    candidates = np.where(survivors, -1, np.abs(slopes))
    grown = candidates >= np.sort(candidates.ravel())[-dropped]
    np.testing.assert_array_equal(after, survivors | grown)
    assert np.any(after & ~before)
    if ON_TENSORFLOW:  # what has grown began at 0
        for _ in range(3):
            pruned.train_on_batch(x, y)
        assert np.all(numpy(wrapper.layer.kernel)[~numpy(mask.mask)] == 0)
