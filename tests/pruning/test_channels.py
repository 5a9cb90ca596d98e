"""Masks of whole channels and heads: what is masked together, and by which scores."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import data_for, train
from tests.layers import model_of
from tfcompress.pruning import PruneConfig
from tfcompress.surgery.costs import uses
from tfcompress.wrapper import wrapped_layers


def numpy(variable):
    return keras.ops.convert_to_numpy(variable.value)


def residual(seed=0):
    """A convolution whose channels are added to those of a later one, and a head behind a flattened image."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = skip = L.ReLU()(L.BatchNormalization(name="stem_norm")(x))
    x = L.Conv2D(6, 3, padding="same", name="inner")(x)
    x = L.ReLU()(L.BatchNormalization(name="inner_norm")(x))
    x = L.Conv2D(8, 1, name="outer")(x)
    x = L.ReLU()(L.Add()([skip, x]))
    x = L.DepthwiseConv2D(3, name="depthwise")(x)
    x = L.Conv2D(4, 1, activation="relu", name="last")(x)
    return keras.Model(inputs, L.Dense(5, name="head")(L.Flatten()(x)), name="residual")


def zero_channels(model, name, axis):
    kernel = numpy(model.get_layer(name).weights[0])
    return np.flatnonzero(np.all(kernel == 0, axis=tuple(a for a in range(kernel.ndim) if a != axis))).tolist()


def test_what_makes_and_what_reads_channels_is_masked_alike():
    model = residual()
    pruned = tfc.prune_once(model, 0.5, granularity="channel")
    stem = zero_channels(pruned, "stem", 3)
    assert len(stem) == 4
    assert stem == zero_channels(pruned, "outer", 3) == zero_channels(pruned, "inner", 2)
    assert stem == zero_channels(pruned, "depthwise", 2) == zero_channels(pruned, "last", 2)
    inner = zero_channels(pruned, "inner", 3)
    assert len(inner) == 3
    assert inner == zero_channels(pruned, "outer", 2)
    last = zero_channels(pruned, "last", 3)
    assert len(last) == 2
    rows = zero_channels(pruned, "head", 0)
    assert rows == [place * 4 + channel for place in range(36) for channel in last]
    # The scores are the means of |w| over what makes the channels: of two kernels for those that are added.
    size = sum(np.abs(numpy(model.get_layer(name).weights[0])).mean(axis=(0, 1, 2)) for name in ("stem", "outer"))
    assert sorted(np.argsort(size)[:4].tolist()) == stem


def test_nothing_behind_depends_on_pruned_channels():
    model = residual()
    for layer in ("stem_norm", "inner_norm"):  # offsets, which make channels of zeros something else than 0
        for weight in model.get_layer(layer).weights:
            weight.assign(np.random.default_rng(1).uniform(0.5, 2, weight.shape))
    pruned = tfc.prune_once(model, 0.5, granularity="channel")
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    expected = pruned.predict(x, verbose=0)
    for name, axis in (("stem", 3), ("outer", 3), ("inner", 3), ("last", 3)):
        layer = pruned.get_layer(name)
        dead = zero_channels(pruned, name, axis)
        kernel = numpy(layer.weights[0]).copy()
        kernel[..., dead] = 7.0
        layer.weights[0].assign(kernel)
    np.testing.assert_array_equal(pruned.predict(x, verbose=0), expected)


def test_in_training_on_schedule_saved_and_shrunk(tmp_path):
    pruned = tfc.prune(residual(), PruneConfig(tfc.PolynomialDecay(0.0, 0.5, 1, 5, frequency=2), granularity="channel"))
    x, y = np.random.default_rng(0).normal(size=(24, 8, 8, 3)).astype("float32"), np.zeros((24, 5))
    pruned.compile("adam", "mse")
    pruned.fit(x, y, batch_size=4, verbose=0)
    pruned.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    expected = pruned.predict(x, verbose=0)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
    small = tfc.shrink(loaded)
    np.testing.assert_allclose(small.predict(x, verbose=0), expected, rtol=0, atol=1e-5)
    assert small.get_layer("stem").filters == 4
    assert small.get_layer("inner").filters == 3
    assert small.get_layer("last").filters == 2
    for mask in (mask for layer in wrapped_layers(loaded) for _, mask in layer.transforms):
        assert (~numpy(mask.mask)).sum() == mask.size // 2


@pytest.mark.filterwarnings("ignore:The common budget leaves one channel")
@pytest.mark.parametrize("scope", ["flops", "bytes"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_budget_is_met_by_the_model_that_remains(scope, share):
    model = residual()
    pruned = tfc.prune_once(model, share, granularity="channel", scope=scope)

    def cost(of):
        if scope == "bytes":
            return sum(np.prod(of.get_layer(name).weights[at].shape) for name, at in uses(of))
        return sum(price * np.prod(of.get_layer(name).weights[at].shape) for (name, at), price in uses(of).items())

    left = cost(tfc.shrink(pruned)) / cost(model)
    assert 1 - share - 0.12 < left <= 1 - share + 1e-6


def test_a_global_budget_leaves_each_layer_one_channel():
    model = residual()
    model.get_layer("inner").kernel.assign(numpy(model.get_layer("inner").kernel) * 1e-3)
    with pytest.warns(UserWarning, match="leaves one channel of layer 'inner'. Take"):
        pruned = tfc.prune_once(model, 0.6, granularity="channel", scope="global")
    assert len(zero_channels(pruned, "inner", 3)) == 5
    with pytest.warns(UserWarning, match="leaves one channel of layer 'stem', one channel of layer 'inner'"):
        pruned = tfc.prune_once(model, 0.99, granularity="channel", scope="global")
    assert [len(zero_channels(pruned, name, 3)) for name in ("stem", "inner", "last")] == [7, 5, 3]


def test_how_often_units_fire_decides():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), L.Dense(6, name="hidden"), L.ReLU(), L.Dense(2, name="head")])
    model.get_layer("hidden").bias.assign([0.0, 9.0, -1.0, -9.0, 0.5, -9.0])
    x = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
    hidden = keras.Model(model.inputs, model.layers[1].output).predict(x, verbose=0)
    rarest = sorted(np.argsort((hidden > 0).mean(axis=0), kind="stable")[:3].tolist())
    for data in (x, (x, None), iter([x[:150], x[150:]])):
        pruned = tfc.prune_once(model, 0.5, data=data, granularity="channel", criterion="activation_frequency")
        assert zero_channels(pruned, "head", 0) == rarest
    with pytest.raises(ValueError, match="Expected finite data. Received: NaN"):
        tfc.prune_once(model, 0.5, data=x * np.nan, granularity="channel", criterion="activation_frequency")
    with pytest.raises(ValueError, match="Expected `data`.*inputs on which units fire"):
        tfc.prune_once(model, 0.5, granularity="channel", criterion="activation_frequency")


def test_scales_of_batch_normalization_decide_and_are_masked():
    model = residual()
    scales = np.random.default_rng(3).normal(size=6)
    model.get_layer("inner_norm").gamma.assign(scales)
    pruned = tfc.prune_once(model, 0.5, granularity="channel", criterion="bn_scale", layers="inner")
    dead = sorted(np.argsort(np.abs(scales))[:3].tolist())
    assert zero_channels(pruned, "inner", 3) == dead
    assert np.flatnonzero(numpy(pruned.get_layer("inner_norm").gamma) == 0).tolist() == dead
    with pytest.raises(ValueError, match="batch normalization behind them.*'last'"):
        tfc.prune_once(model, 0.5, granularity="channel", criterion="bn_scale", layers="last")


@pytest.mark.parametrize("criterion", ["gradient", "movement"])
def test_gradients_of_channels_from_data_and_in_training(criterion):
    model = residual()
    x, y = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32"), np.ones((16, 5))
    once = tfc.prune_once(model, 0.5, data=(x, y), loss="mse", granularity="channel", criterion=criterion)
    assert len(zero_channels(once, "stem", 3)) == 4
    pruned = tfc.prune(
        model, PruneConfig(tfc.ConstantSparsity(0.5, 2, frequency=10), granularity="channel", criterion=criterion)
    )
    pruned.compile("sgd", "mse")
    pruned.fit(x, y, batch_size=4, verbose=0)
    assert len(zero_channels(tfc.strip(pruned), "stem", 3)) == 4


def test_heads_are_pruned_in_query_key_value_and_output():
    model = model_of("attention")
    pruned = tfc.prune_once(model, 0.5, granularity="attention_head")
    kernels = {layer.name: numpy(layer.kernel) for layer in pruned.layers if isinstance(layer, L.EinsumDense)}
    (head,) = np.flatnonzero(np.all(next(k for n, k in kernels.items() if "query" in n) == 0, axis=(0, 2)))
    for name, kernel in kernels.items():
        heads = np.moveaxis(kernel, 0 if "output" in name else 1, 0)
        assert np.all(heads[head] == 0), name
        assert np.any(heads[1 - head] != 0), name
    x, _ = data_for("attention")
    small = tfc.shrink(pruned)
    np.testing.assert_allclose(small.predict(x, verbose=0), pruned.predict(x, verbose=0), rtol=0, atol=1e-5)
    assert small.count_params() < model.count_params()


def test_all_that_makes_the_same_channels_must_be_meant():
    model = residual()
    config = PruneConfig(0.5, granularity="channel")
    for refused, words in [
        (lambda: tfc.prune(model, config, layers="stem"), "all layers that make the same.*'stem' without 'outer'"),
        (lambda: tfc.prune(model, config, layers="head"), "'head', whose can't: it is an output of the model"),
        (lambda: tfc.prune(model, config, layers="stem_norm"), "none of those that are meant"),
        (lambda: tfc.prune(model, PruneConfig(0.5, granularity="attention_head")), "heads that can be removed"),
        (lambda: PruneConfig(tfc.Regrowth(0.5, end_step=9), granularity="channel"), "doesn't regrow"),
        (lambda: tfc.prune(tfc.prune(model, config), config), "'stem', which has a mask"),
    ]:
        with pytest.raises(ValueError, match=words):
            refused()
    chosen = tfc.prune(model, PruneConfig(0.5, granularity="channel"), layers=["stem", "outer"])
    assert {mask.unit for layer in wrapped_layers(chosen) for _, mask in layer.transforms} == {"stem"}
    others = tfc.prune(model, PruneConfig(0.5, granularity="channel"), layers=lambda layer: layer.name != "outer")
    assert {mask.unit for layer in wrapped_layers(others) for _, mask in layer.transforms} == {"inner", "last"}


def test_the_summary_says_which_kernels_lose_channels():
    shown = tfc.summary(tfc.prune(residual(), PruneConfig(0.5, granularity="channel"), layers="inner"))
    assert {row.layer: row.status for row in shown.rows if row.weight} == {
        "stem": "as it is",
        "inner": "pruned by channels",
        "outer": "pruned by channels",
        "depthwise": "as it is",
        "last": "as it is",
        "head": "as it is",
    }


def test_targets_of_what_can_only_go_together_agree():
    model = residual()
    with pytest.raises(ValueError, match="one target for layers that make the same channels.*'stem': 0.25"):
        tfc.prune_once(model, 0.5, granularity="channel", targets={"stem": 0.25, "outer": 0.75})
    with pytest.raises(ValueError, match="ends above 0"):
        tfc.prune(model, PruneConfig(0.0, granularity="channel", targets={"inner": 0.5}))


def test_that_a_layer_would_be_empty_is_said():
    with pytest.warns(UserWarning, match="layer 'last' without channels: one is kept"):
        pruned = tfc.prune(residual(), PruneConfig(0.9, granularity="channel"))
    train(pruned, np.ones((8, 8, 8, 3)), np.ones((8, 5)))
    assert len(zero_channels(tfc.strip(pruned), "last", 3)) == 3


def test_units_reach_sparsities_of_their_own():
    pruned = tfc.prune_once(residual(), 0.5, granularity="channel", targets={"inner": 0.67, "last": 0.25})
    assert [len(zero_channels(pruned, name, 3)) for name in ("stem", "inner", "last")] == [4, 4, 1]
