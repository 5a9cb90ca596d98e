"""Masks of whole channels and heads: what is masked together, and by which scores."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW, data_for, in_turn, train
from tests.graph.networks import NETWORKS
from tests.layers import model_of
from tfcompress.channels.costs import total_multiply_adds
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.graph import kernel_positions, rebuild
from tfcompress.pruning import PruneConfig, shrink_report
from tfcompress.pruning.channel_mask import ChannelMask
from tfcompress.pruning.prune import update_masks


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


@pytest.mark.on_jax
def test_in_training_on_schedule_saved_and_shrunk(tmp_path):
    pruned = tfc.prune(
        residual(), PruneConfig(tfc.PolynomialSparsity(0.0, 0.5, 1, 5, frequency=2), granularity="channel")
    )
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


def attending():
    """Attention and a dense layer behind it: the products of attention cost half of the whole."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 8))
    x = L.MultiHeadAttention(8, 4, name="mha")(inputs, inputs)
    return keras.Model(inputs, L.Dense(2, name="head")(L.GlobalAveragePooling1D()(L.Dense(8, name="wide")(x))))


def cost_of(model, scope):
    flat = rebuild(model)
    if scope == "flops":
        return total_multiply_adds(flat)
    kernels = [layer.weights[at] for layer in flat.layers for at in kernel_positions(layer)]
    return sum(4 * np.prod(kernel.shape) for kernel in kernels)


@pytest.mark.filterwarnings("ignore:The common budget leaves one channel")
@pytest.mark.parametrize("scope", ["flops", "bytes"])
@pytest.mark.parametrize(("case", "share"), in_turn([(residual, "channel"), (attending, "attention_head")], [0.6, 0.3]))
def test_a_budget_is_met_by_the_model_that_remains(scope, case, share):
    make, granularity = case
    model = make()
    pruned = tfc.prune_once(model, share, granularity=granularity, scope=scope)
    left = cost_of(tfc.shrink(pruned), scope) / cost_of(model, scope)
    assert 1 - share - 0.12 < left <= 1 - share + 1e-6


def test_a_budget_that_attention_alone_exceeds_is_refused():
    with pytest.raises(ValueError, match="at most 0.0.* with scope='flops': what isn't pruned costs 9"):
        tfc.prune_once(attending(), 0.3, granularity="channel", scope="flops")


@keras.saving.register_keras_serializable(package="tests.pruning")
def size_as_it_is(weights, statistics):
    return keras.ops.abs(weights)


@pytest.mark.parametrize("scope", ["global", "flops", "bytes"])
def test_units_are_compared_whatever_the_scale_of_their_layers(scope):
    plain, scaled = residual(), residual()
    scaled.set_weights(plain.get_weights())
    scaled.get_layer("inner").kernel.assign(numpy(plain.get_layer("inner").kernel) * 1e-3)
    found = [tfc.prune_once(m, 0.5, granularity="channel", scope=scope) for m in (plain, scaled)]
    for unit in ("stem", "inner", "last"):
        assert zero_channels(found[0], unit, 3) == zero_channels(found[1], unit, 3)
    scores = {}
    for unit, names in {"stem": ("stem", "outer"), "inner": ("inner",), "last": ("last",)}.items():
        sizes = [np.abs(numpy(plain.get_layer(name).kernel)).mean(axis=(0, 1, 2)) for name in names]
        scores[unit] = np.mean(sizes, axis=0) / np.mean(sizes)
    kept = {unit: np.setdiff1d(np.arange(len(scores[unit])), zero_channels(found[0], unit, 3)) for unit in scores}
    gone = {unit: np.delete(scores[unit], kept[unit]) for unit in scores}
    if scope == "global":
        assert max(map(np.max, gone.values())) <= min(scores[unit][at].min() for unit, at in kept.items())


def test_a_global_budget_leaves_each_layer_one_channel():
    model = residual()
    model.get_layer("inner").kernel.assign(numpy(model.get_layer("inner").kernel) * 1e-3)
    size = {
        unit: np.mean([np.abs(numpy(model.get_layer(name).kernel)).mean(axis=(0, 1, 2)) for name in names], axis=0)
        for unit, names in {"stem": ("stem", "outer"), "inner": ("inner",), "last": ("last",)}.items()
    }
    alone = [f"one channel of layer {name!r}" for name in ("stem", "inner", "outer", "last")]
    for share, kept, said in [(0.6, 7, f"{alone[1]}. Take"), (0.99, 3, ", ".join(alone))]:  # of 18
        expected = {unit: {int(np.argmax(scores))} for unit, scores in size.items()}
        ranked = sorted((score, unit, at) for unit, scores in size.items() for at, score in enumerate(scores))
        while sum(map(len, expected.values())) < kept:
            _, unit, at = ranked.pop()
            expected[unit].add(at)
        with pytest.warns(UserWarning, match=f"leaves {said}"):
            pruned = tfc.prune_once(model, share, granularity="channel", scope="global", criterion=size_as_it_is)
        for unit, channels in expected.items():
            assert set(range(len(size[unit]))) - set(zero_channels(pruned, unit, 3)) == channels


@pytest.mark.on_jax
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
    with pytest.raises(ValueError, match="Expected finite numbers in input.*Received: NaN"):
        tfc.prune_once(model, 0.5, data=x * np.nan, granularity="channel", criterion="activation_frequency")
    with pytest.raises(ValueError, match="Expected `data`.*inputs on which units fire"):
        tfc.prune_once(model, 0.5, granularity="channel", criterion="activation_frequency")


def firing(x, kernel, bias):
    return (x @ kernel[0, 0] + bias > 0).mean(axis=(0, 1, 2))


@pytest.mark.parametrize("reduce", ["average", "most", "squeeze"])
def test_units_fire_at_positions_and_not_behind_a_pooling(reduce):
    generator = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 1))
    fired = L.ReLU()(L.Conv2D(4, 1, name="conv")(inputs))
    if reduce == "squeeze":
        gate = L.Dense(2, activation="relu", name="squeeze")(L.GlobalAveragePooling2D(keepdims=True)(fired))
        scaled = L.Multiply()([fired, L.Dense(4, activation="sigmoid", name="excite")(gate)])
        outputs = L.Conv2D(2, 1, name="head")(scaled)
    else:
        pool = L.GlobalAveragePooling2D() if reduce == "average" else L.MaxPooling2D(8)
        outputs = L.Dense(2, name="head")(L.Flatten()(pool(fired)))
    model = keras.Model(inputs, outputs)
    kernel, bias = np.ones((1, 1, 1, 4)), np.array([-1.5, -1, 1, 2.0])
    model.get_layer("conv").set_weights([kernel, bias])
    x = generator.normal(size=(64, 16, 16, 1)).astype("float32")
    layers = ["conv", "excite"] if reduce == "squeeze" else ["conv"]
    config = PruneConfig(tfc.ConstantSparsity(0.5), granularity="channel", criterion="activation_frequency")
    pruned = tfc.prune(model, config, layers=layers, data=x)
    (found,) = {tuple(numpy(mask.frequency)) for name in layers for _, mask in pruned.get_layer(name).transforms}
    # All four fire somewhere in each image; as for positions it is about 7, 16, 84 and 98 %.
    np.testing.assert_allclose(found, firing(x, kernel, bias), atol=1e-5)
    update_masks(pruned)
    assert zero_channels(tfc.strip(pruned), "conv", 3) == [0, 1]


@pytest.mark.on_jax
def test_all_calls_of_a_shared_layer_count():
    keras.utils.set_random_seed(0)
    shared, inputs = L.Dense(3, activation="relu", name="shared"), [keras.Input((2,)), keras.Input((2,))]
    read = L.Dense(1, name="read")
    model = keras.Model(inputs, L.Add()([read(shared(x)) for x in inputs]))
    x = np.random.default_rng(0).normal(size=(2, 50, 2)) + np.array([2.0, -1.0])[:, None, None]
    config = PruneConfig(tfc.ConstantSparsity(0.5, 9), granularity="channel", criterion="activation_frequency")
    pruned = tfc.prune(model, config, layers="shared", data=list(x))
    (mask,) = (mask for _, mask in pruned.get_layer("shared").transforms)
    kernel = numpy(shared.kernel)
    np.testing.assert_allclose(numpy(mask.frequency), (x @ kernel > 0).mean(axis=(0, 1)), atol=1e-6)


@pytest.mark.on_jax
@pytest.mark.skipif(ON_TENSORFLOW, reason="TensorFlow has no such convolution on a CPU")
def test_channels_in_front_of_the_image_are_counted_as_channels():
    inputs = keras.Input((1, 6, 5))
    x = L.Conv2D(4, 1, data_format="channels_first", activation="relu", name="conv")(inputs)
    model = keras.Model(inputs, L.Conv2D(2, 3, data_format="channels_first", name="head")(x))
    kernel, bias = np.ones((1, 1, 1, 4)), np.array([2.0, -1, 1, -1.5])
    model.get_layer("conv").set_weights([kernel, bias])
    x = np.random.default_rng(0).normal(size=(40, 1, 6, 5))
    config = PruneConfig(tfc.ConstantSparsity(0.5, 9), granularity="channel", criterion="activation_frequency")
    pruned = tfc.prune(model, config, layers="conv", data=x)
    (mask,) = (mask for _, mask in pruned.get_layer("conv").transforms)
    expected = firing(np.moveaxis(x, 1, -1), kernel, bias)
    np.testing.assert_allclose(numpy(mask.frequency), expected, atol=1e-6)


@pytest.mark.on_jax
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


@pytest.mark.on_jax
@pytest.mark.parametrize("criterion", ["gradient", "movement"])
def test_gradients_of_channels_from_data_and_in_training(criterion):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((5,)), L.Dense(8, activation="tanh", name="hidden"), L.Dense(3, name="head")]
    model = keras.Sequential(layers)
    first, last = (numpy(model.get_layer(name).kernel) for name in ("hidden", "head"))
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(16, 5)), generator.normal(size=(16, 3))
    scores, total = np.zeros(8), np.zeros((5, 8))
    for start in range(0, 16, 4):
        one, wanted = x[start : start + 4], y[start : start + 4]
        hidden = np.tanh(one @ first)
        error = 2 * (hidden @ last - wanted) / wanted.size
        change = first * (one.T @ ((error @ last.T) * (1 - hidden**2)))
        scores += (np.abs(change) if criterion == "gradient" else -change).mean(axis=0)
        total += change
    dead = sorted(np.argsort(scores)[:4].tolist())
    of_all = (np.abs(total) if criterion == "gradient" else -total).mean(axis=0)  # the gradient of the mean loss
    how = {"granularity": "channel", "criterion": criterion}
    once = tfc.prune_once(model, 0.5, data=(x, y), loss="mse", batch_size=4, **how)
    assert zero_channels(once, "hidden", 1) == sorted(np.argsort(of_all)[:4].tolist())
    pruned = tfc.prune(model, PruneConfig(tfc.ConstantSparsity(0.5, 4, frequency=10), **how))
    pruned.compile(keras.optimizers.SGD(0.0), "mse")
    pruned.fit(x, y, batch_size=4, shuffle=False, epochs=2, verbose=0)
    assert zero_channels(tfc.strip(pruned), "hidden", 1) == dead


def test_heads_are_pruned_in_query_key_value_and_output():
    model = model_of("attention")
    flat = {layer.name: numpy(layer.kernel) for layer in rebuild(model).layers if isinstance(layer, L.EinsumDense)}
    size = sum(np.abs(kernel).mean(axis=(0, 2)) for name, kernel in flat.items() if "output" not in name)
    head = int(np.argmin(size))
    pruned = tfc.prune_once(model, 0.5, granularity="attention_head")
    kernels = {layer.name: numpy(layer.kernel) for layer in pruned.layers if isinstance(layer, L.EinsumDense)}
    assert len(kernels) == 4
    for name, kernel in kernels.items():
        heads = np.moveaxis(kernel, 0 if "output" in name else 1, 0)
        assert np.all(heads[head] == 0), name
        assert np.any(heads[1 - head] != 0), name
    x, _ = data_for("attention")
    small = tfc.shrink(pruned)
    np.testing.assert_allclose(small.predict(x, verbose=0), pruned.predict(x, verbose=0), rtol=0, atol=1e-5)
    assert small.count_params() < model.count_params()


def attention(heads):
    inputs = keras.Input((4, 6))
    return keras.Model(inputs, L.MultiHeadAttention(heads, 2, name="mha")(inputs, inputs))


def test_heads_that_do_not_come_out_whole_are_refused():
    for share, heads, words in [
        (0.5, 3, "0.5 for 'mha_query', which has 3 heads. Give 0 or 0.3333 or 0.6667, for"),
        (0.4, 16, "Give 0.375 or 0.4375, for"),
    ]:
        with pytest.raises(ValueError, match=words):
            tfc.prune_once(attention(heads), share, granularity="attention_head")
    for share in (0.67, 2 / 3):
        pruned = tfc.prune_once(attention(3), share, granularity="attention_head")
        assert list(tfc.summary(pruned).sparsities.values()) == pytest.approx([2 / 3] * 4)
    own = tfc.prune_once(attention(3), 0.5, granularity="attention_head", allocation={"mha_query": 1 / 3})
    assert tfc.sparsity(own) == pytest.approx(1 / 3)


def test_why_an_attention_is_kept_whole_is_said():
    words = keras.Input((6,), dtype="int32")
    x = L.Embedding(10, 8, mask_zero=True)(words)
    masked = keras.Model(words, L.LSTM(3)(L.MultiHeadAttention(2, 4, name="mha")(x, x)))
    with pytest.raises(ValueError, match="mha: it gets a Keras mask and can't be opened; leave mask_zero out and pass"):
        tfc.prune_once(masked, 0.5, granularity="attention_head")
    (row,) = (row for row in shrink_report(masked).rows if row.group == "mha")
    assert (row.kind, row.channels, row.removable) == ("attention_head", 2, 0)
    assert row.reason.startswith("it gets a Keras mask")
    words, mask = keras.Input((6,), dtype="int32"), keras.Input((6, 6), dtype="bool")  # as the message says
    x = L.Embedding(10, 8)(words)
    x = L.MultiHeadAttention(2, 4, name="mha")(x, x, attention_mask=mask)
    pruned = tfc.prune_once(keras.Model([words, mask], L.LSTM(3)(x)), 0.5, granularity="attention_head")
    assert np.all(numpy(pruned.get_layer("mha_query").kernel) == 0, axis=(0, 2)).sum() == 1


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
        tfc.prune_once(model, 0.5, granularity="channel", allocation={"stem": 0.25, "outer": 0.75})
    with pytest.raises(ValueError, match="ends above 0"):
        tfc.prune(model, PruneConfig(0.0, granularity="channel", allocation={"inner": 0.5}))


def test_that_a_layer_would_be_empty_is_said():
    with pytest.warns(UserWarning, match="layer 'last' without channels: one is kept"):
        pruned = tfc.prune(residual(), PruneConfig(0.9, granularity="channel"))
    train(pruned, np.ones((8, 8, 8, 3)), np.ones((8, 5)))
    assert len(zero_channels(tfc.strip(pruned), "last", 3)) == 3


def test_units_reach_sparsities_of_their_own():
    pruned = tfc.prune_once(residual(), 0.5, granularity="channel", allocation={"inner": 0.67, "last": 0.25})
    assert [len(zero_channels(pruned, name, 3)) for name in ("stem", "inner", "last")] == [4, 4, 1]


class Scanned:
    """A scan in which all layers were looked at, also those without channels of their own."""

    def __init__(self, model):
        kernels = {
            layer.name: kernel for layer in model.layers if (kernel := getattr(layer, "kernel", None)) is not None
        }
        self.sizes = {name: int(np.prod(kernel.shape)) for name, kernel in kernels.items()}

    def losses(self):
        return {name: {0.5: 0.1 * at, 0.9: 0.2 * at} for at, name in enumerate(self.sizes, 1)}


def test_targets_of_a_scan_are_for_those_that_have_channels():
    model = residual()
    found = tfc.allocation.from_sensitivity(Scanned(model), 0.5)
    assert set(found) == {"stem", "inner", "outer", "depthwise", "last", "head"}
    with pytest.warns(UserWarning, match="of layer 'depthwise', 'head' are ignored.*less sparse"):
        pruned = tfc.prune_once(model, 0.5, granularity="channel", allocation=found)
    gone = {"stem": min(found["stem"], found["outer"]) * 8, "inner": found["inner"] * 6, "last": found["last"] * 4}
    assert found["stem"] != found["outer"]
    assert {name: len(zero_channels(pruned, name, 3)) for name in gone} == {n: round(v) for n, v in gone.items()}
    with pytest.raises(ValueError, match="'depthwise', which is none"):  # by hand it is a mistake
        tfc.prune_once(model, 0.5, granularity="channel", allocation=dict(found))
    with pytest.raises(ValueError, match="'steam', which is none. Did you mean 'stem'"):
        tfc.prune_once(model, 0.5, granularity="channel", allocation=type(found)(found, steam=0.5))


@keras.saving.register_keras_serializable("tests")
def endless(step):
    return keras.ops.minimum(keras.ops.cast(step, "float32") / 4.0, 0.5)


@pytest.mark.parametrize("scope", ["layer", "flops"])
def test_a_function_of_the_step_needs_no_end(scope):
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, name="hidden"), L.Dense(2, name="head")])
    schedule = tfc.FunctionSchedule(endless, frequency=1)
    pruned = tfc.prune(model, PruneConfig(schedule, granularity="channel", scope=scope))
    pruned.compile("sgd", "mse")
    pruned.fit(np.ones((12, 6)), np.ones((12, 2)), batch_size=2, verbose=0)
    assert len(zero_channels(tfc.strip(pruned), "hidden", 1)) == 4


def mask_apart():
    """Three channels of two indices each, twice, with three indices of others between and two before."""
    config = PruneConfig(0.5, granularity="channel")
    where = {"start": 2, "outer": 2, "inner": 2, "gap": 3}
    mask = ChannelMask(config, unit="unit", size=3, axis=1, role="producer", **where)
    weight = keras.Variable(np.random.default_rng(0).normal(size=(4, 20)).astype("float32"))
    mask.build(weight, lambda name, shape, dtype, initializer: keras.Variable(initializer, shape, dtype))
    return mask, weight


PLACES = np.array([[2, 3, 11, 12], [4, 5, 13, 14], [6, 7, 15, 16]])
"""Of `mask_apart`: the indices of each channel."""


def test_a_mask_of_channels_that_lie_between_others():
    mask, weight = mask_apart()
    mask.mask.assign([True, False, True])
    expected = numpy(weight).copy()
    expected[:, PLACES[1]] = 0
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(mask.apply(weight.value)), expected)
    assert ChannelMask.from_config(mask.get_config()).get_config() == mask.get_config()


def test_scores_of_channels_that_lie_between_others():
    mask, weight = mask_apart()
    found = keras.ops.convert_to_numpy(mask.per_channel(keras.ops.convert_to_tensor(numpy(weight))))
    np.testing.assert_allclose(found, [numpy(weight)[:, places].mean() for places in PLACES], rtol=1e-6)


def test_a_flattened_concatenation_has_one_mask_for_each_unit():
    model = NETWORKS["concatenated"].make()
    pruned = tfc.prune(model, PruneConfig(0.5, granularity="channel"))
    assert [transform.unit for _, transform in pruned.get_layer("head").transforms] == ["a", "b", "c"]
    update_masks(pruned)
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 3)).astype("float32")
    small = tfc.shrink(pruned)
    assert [small.get_layer(name).filters for name in "abc"] == [2, 2, 1]
    np.testing.assert_allclose(
        *(keras.ops.convert_to_numpy(each(x, training=False)) for each in (small, tfc.strip(pruned))), atol=1e-5
    )
