"""The verbs: prune, prune_once, and what they refuse."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.core.wrapper import CompressedLayer, wrapped_layers


def small(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            L.Conv2D(4, 3, name="conv"),
            L.BatchNormalization(name="norm"),
            L.Flatten(name="flat"),
            L.Dense(10, name="dense"),
            L.Dense(3, name="head"),
        ],
        name="small",
    )


def numpy(variable):
    return keras.ops.convert_to_numpy(variable.value)


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.77, 0.99])
def test_masks_equal_tfmots(tfmot, sparsity):
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl

    weights = np.random.default_rng(0).normal(size=(17, 23)).astype("float32")
    model = keras.Sequential([keras.Input((17,)), L.Dense(23, use_bias=False)])
    model.layers[0].kernel.assign(weights)
    ours = np.asarray(tfc.prune_once(model, sparsity).layers[-1].kernel.value) != 0

    theirs = pruning_impl.Pruning(
        training_step_fn=lambda: tf.constant(0),
        pruning_vars=[(tf.Variable(weights), tf.Variable(np.ones_like(weights)), tf.Variable(0.0))],
        pruning_schedule=tfmot.sparsity.keras.ConstantSparsity(sparsity, 0, frequency=1),
        block_size=(1, 1),
        block_pooling_type="AVG",
    )
    _, mask = theirs._update_mask(tf.Variable(weights))
    np.testing.assert_array_equal(ours, mask.numpy() != 0)


@pytest.mark.on_jax
def test_layer_scope_prunes_each_and_global_scope_all_together():
    model = small()
    model.get_layer("dense").kernel.assign(numpy(model.get_layer("dense").kernel) * 100)
    each = tfc.summary(tfc.prune_once(model, 0.5)).sparsities
    assert set(each.values()) == {0.5}
    with pytest.warns(UserWarning, match="leaves one weight of layer 'conv', one weight of layer 'head'"):
        together = tfc.prune_once(model, 0.5, scope="global")
    sizes = {name: np.abs(numpy(model.get_layer(name).kernel)) for name in ("conv", "dense", "head")}
    count = sum(size.size for size in sizes.values()) // 2 - 2
    for name, size in sizes.items():
        least = np.sort(size.ravel())[-count if name == "dense" else -1]
        expected = np.where(size >= least, numpy(model.get_layer(name).kernel), 0)
        np.testing.assert_array_equal(numpy(together.get_layer(name).kernel), expected)
    assert tfc.sparsity(together) == 0.5


@pytest.mark.on_jax
def test_global_scope_in_training_survives_saving(tmp_path):
    pruned = tfc.prune(small(), tfc.PruneConfig(tfc.ConstantSparsity(0.6, frequency=1), scope="global"))
    x, y = np.random.default_rng(0).normal(size=(16, 8, 8, 2)), np.zeros((16, 3))
    pruned.compile("adam", "mse")
    pruned.fit(x, y, batch_size=8, verbose=0)
    pruned.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    loaded.fit(x, y, batch_size=8, verbose=0)
    for model in (pruned, loaded):
        masks = [numpy(t.mask) for layer in wrapped_layers(model) for _, t in layer.transforms]
        assert sum(mask.sum() for mask in masks) == round(sum(mask.size for mask in masks) * 0.4)
        assert len({float(mask.mean()) for mask in masks}) == 3


def test_two_global_groups_are_each_on_their_own_budget():
    first = tfc.prune(small(), tfc.PruneConfig(tfc.ConstantSparsity(0.5), scope="global"), layers=["conv", "dense"])
    both = tfc.prune(first, tfc.PruneConfig(tfc.ConstantSparsity(0.8), scope="global"), layers="head")
    both.compile("sgd", "mse")
    both.fit(np.random.default_rng(0).normal(size=(4, 8, 8, 2)), np.zeros((4, 3)), verbose=0)
    assert tfc.summary(both).sparsities["head/kernel"] == 0.8
    assert len({t.group for layer in wrapped_layers(both) for _, t in layer.transforms}) == 2


def test_layers_are_chosen_by_name_expression_and_function():
    for layers, expected in [
        ("head", {"head"}),
        (["conv", "head"], {"conv", "head"}),
        (re.compile("dense|head"), {"dense", "head"}),
        ("co.*", {"conv"}),
        (lambda layer: isinstance(layer, L.Dense), {"dense", "head"}),
        (None, {"conv", "dense", "head"}),
    ]:
        assert {layer.name for layer in wrapped_layers(tfc.prune(small(), 0.5, layers=layers))} == expected


def test_what_cannot_be_pruned_is_refused():
    with pytest.raises(ValueError, match="'dens', which matches none. Did you mean 'dense'"):
        tfc.prune(small(), 0.5, layers=["dens"])
    with pytest.raises(ValueError, match="'norm' of class BatchNormalization, which has nothing to prune"):
        tfc.prune(small(), 0.5, layers="norm")
    with pytest.raises(ValueError, match="none of layers='fla.*' has a kernel"):
        tfc.prune(small(), 0.5, layers="fla.*")
    with pytest.raises(TypeError, match="Expected `layers`"):
        tfc.prune(small(), 0.5, layers=3)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        tfc.prune(small(), 1.0)
    with pytest.raises(ValueError, match="in which none has a kernel"):
        tfc.prune(keras.Sequential([keras.Input((3,)), L.ReLU()]), 0.5)
    with pytest.raises(ValueError, match="'conv', which has a mask"):
        tfc.prune(tfc.prune(small(), 0.5), 0.5)
    with pytest.raises(ValueError, match="data=None"):
        tfc.prune_once(small(), 0.5, data=np.zeros(3))
    with pytest.raises(TypeError, match="keras.Model"):
        tfc.prune("model", 0.5)
    broken = small()
    broken.get_layer("dense").kernel.assign(numpy(broken.get_layer("dense").kernel) * np.nan)
    with pytest.raises(ValueError, match="finite weights.*'dense'"):
        tfc.prune(broken, 0.5)


def test_ties_do_not_stop_pruning():
    model = keras.Sequential([keras.Input((8,)), L.Dense(4, kernel_initializer="ones")])
    assert tfc.sparsity(tfc.prune_once(model, 0.5)) == 0.5


@pytest.mark.on_jax
def test_sparsity_rises_on_schedule_and_pruned_weights_stay_pruned():
    model = keras.Sequential([keras.Input((16,)), L.Dense(32, name="dense")])
    schedule = tfc.PolynomialSparsity(0.0, 0.75, begin_step=1, end_step=7, frequency=2)
    pruned = tfc.prune(model, schedule)
    pruned.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    x, y = np.random.default_rng(0).normal(size=(2, 16)), np.random.default_rng(1).normal(size=(2, 32))
    previous = np.ones((16, 32), bool)
    for step in range(10):
        pruned.fit(x, y, batch_size=2, verbose=0)
        mask = numpy(wrapped_layers(pruned)[0].transforms[0][1].mask)
        last = step if step % 2 else step - 1
        expected = float(schedule.sparsity(min(last, 7))) if step >= 1 else 0.0
        assert abs((~mask).mean() - expected) < 1.5 / mask.size
        assert not np.any(mask & ~previous)
        previous = mask


def test_summary_says_what_became_of_every_layer():
    shown = tfc.summary(tfc.prune(small(), 0.5, layers="dense"))
    assert {row.layer: row.status for row in shown.rows} == {
        "conv": "as it is",
        "norm": "no kernel",
        "flat": "no weights",
        "dense": "pruned",
        "head": "as it is",
    }
    text = str(tfc.summary(tfc.prune_once(small(), 0.5)))
    assert "50.0%" in text
    assert "3x3x2x4" in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.on_jax
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_callback_prints_and_writes_what_masks_are(tmp_path, capsys):
    pruned = tfc.prune(small(), tfc.ConstantSparsity(0.5, frequency=1))
    pruned.compile("sgd", "mse")
    callback = tfc.callbacks.PruningSummaries(tmp_path)
    x, y = np.random.default_rng(0).normal(size=(8, 8, 8, 2)), np.zeros((8, 3))
    pruned.fit(x, y, batch_size=4, epochs=2, verbose=0, callbacks=[callback])
    assert capsys.readouterr().out.splitlines() == [
        "step 2: 50.0 % of the kernels zero; schedule: 50.0 %; masks stay as they are",
        "step 4: 50.0 % of the kernels zero; schedule: 50.0 %; masks stay as they are",
    ]
    import tensorflow as tf

    seen = {}
    (log,) = tmp_path.iterdir()
    for record in tf.data.TFRecordDataset(str(log)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            seen[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    assert seen["sparsity/all", 4] == 0.5
    assert seen["sparsity/conv/kernel", 2] == 0.5
    assert len(seen) == 10


def test_callback_says_what_next_to_nothing_is_left_of(capsys):
    model = small()
    model.get_layer("conv").kernel.assign(numpy(model.get_layer("conv").kernel) * 1e-6)
    pruned = tfc.prune(model, tfc.PruneConfig(0.5, scope="global"))
    pruned.compile("sgd", "mse")
    pruned.fit(np.ones((2, 8, 8, 2)), np.ones((2, 3)), verbose=0, callbacks=[tfc.callbacks.PruningSummaries()])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("The common budget leaves one weight of layer 'conv'. Take a lower sparsity")


def test_the_given_model_may_be_trained_apart():
    model = small()
    pruned = tfc.prune(model, 0.5)
    for trained in (model, pruned):
        trained.compile("sgd", "mse")
        trained.fit(np.ones((2, 8, 8, 2)), np.ones((2, 3)), verbose=0)
    assert tfc.sparsity(model) == 0
    assert not any(isinstance(layer, CompressedLayer) for layer in model.layers)


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (lambda: tfc.PruneConfig(0.5, criterion="taylor"), "criterion='taylor'. Did you mean 'gradient'?"),
        (lambda: tfc.PruneConfig(0.5, granularity="filter"), "granularity='filter'. Did you mean 'channel'?"),
        (lambda: tfc.PruneConfig(0.5, criterium="l2"), "Received: criterium=. Did you mean criterion=?"),
        (lambda: tfc.prune_once(small(), 0.5, scop="global"), "Received: scop=. Did you mean scope=?"),
        (lambda: tfc.QuantizeConfig(weigths=None), "Received: weigths=. Did you mean weights=?"),
        (lambda: tfc.WeightSpec(granularty="per_tensor"), "Received: granularty=. Did you mean granularity=?"),
        (lambda: tfc.ActivationSpec(percentil=99.0), "Received: percentil=. Did you mean percentile=?"),
        (lambda: tfc.QuantizeConfig.from_dict({"weight": {}}), "Received: 'weight'. Did you mean 'weights'?"),
    ],
)
def test_wrong_names_are_answered_with_the_right_ones(make, answer):
    with pytest.raises((TypeError, ValueError), match=re.escape(answer)):
        make()
