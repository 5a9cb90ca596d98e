"""Schedules, value by value."""

from __future__ import annotations

import functools
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import tfcompress as tfc


def values(schedule, steps):
    pairs = [schedule(step) for step in steps]
    return [bool(updates) for updates, _ in pairs], [float(sparsity) for _, sparsity in pairs]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ConstantSparsity", dict(target_sparsity=0.3, begin_step=0)),
        ("ConstantSparsity", dict(target_sparsity=0.7, begin_step=3, end_step=40, frequency=5)),
        ("ConstantSparsity", dict(target_sparsity=0.5, begin_step=10, end_step=10, frequency=1)),
        (
            "PolynomialSparsity",
            dict(initial_sparsity=0.2, final_sparsity=0.8, begin_step=5, end_step=45, frequency=4),
        ),
        (
            "PolynomialSparsity",
            dict(initial_sparsity=0.0, final_sparsity=0.9, begin_step=0, end_step=50, power=1, frequency=10),
        ),
        (
            "PolynomialSparsity",
            dict(initial_sparsity=0.5, final_sparsity=0.1, begin_step=1, end_step=51, power=2.5, frequency=1),
        ),
    ],
)
def test_equal_to_tfmot_at_every_step(tfmot, name, arguments):
    steps = range(60)
    ours = values(getattr(tfc, name)(**arguments), steps)
    theirs = values(
        getattr(tfmot.sparsity.keras, name.replace("PolynomialSparsity", "PolynomialDecay"))(**arguments), steps
    )
    assert ours[0] == theirs[0]
    np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=1e-6)


def test_cosine_is_half_a_cosine():
    schedule = tfc.CosineSparsity(0.1, 0.9, begin_step=10, end_step=50, frequency=2)
    steps = np.arange(60)
    progress = np.clip((steps - 10) / 40, 0, 1)
    expected = 0.9 - 0.8 * (1 + np.cos(np.pi * progress)) / 2
    due, sparsities = values(schedule, steps)
    np.testing.assert_allclose(sparsities, expected, atol=1e-6)
    assert due == [10 <= step <= 50 and step % 2 == 0 for step in steps]


def test_exponential_removes_the_same_share_of_the_rest_each_time():
    schedule = tfc.ExponentialSparsity(0.2, 0.95, begin_step=10, end_step=50, frequency=4)
    steps = np.arange(60)
    due, sparsities = values(schedule, steps)
    progress = np.clip((steps - 10) / 40, 0, 1)
    np.testing.assert_allclose(sparsities, 1 - 0.8 * (0.05 / 0.8) ** progress, atol=1e-6)
    assert due == [10 <= step <= 50 and (step - 10) % 4 == 0 for step in steps]
    left = 1 - np.array(sparsities)[np.array(due)]
    np.testing.assert_allclose(left[1:] / left[:-1], (0.05 / 0.8) ** 0.1, rtol=1e-4)


@pytest.mark.parametrize("step", [0, 7, 100])
def test_one_shot_fires_once(step):
    due, sparsities = values(tfc.OneShot(0.75, step=step), range(250))
    assert [at for at, updates in enumerate(due) if updates] == [step]
    assert set(sparsities) == {0.75}


def test_regrowth_is_rigls_schedule():
    schedule = tfc.Regrowth(0.9, drop_fraction=0.4, begin_step=30, end_step=90, frequency=20)
    due, sparsities = values(schedule, range(120))
    assert [step for step, updates in enumerate(due) if updates] == [0, 30, 50, 70, 90]
    np.testing.assert_allclose(sparsities, 0.9, atol=1e-7)
    steps = np.arange(120)
    expected = 0.2 * (1 + np.cos(np.pi * np.minimum(steps / 90, 1)))
    expected[0] = 0
    shares = [float(schedule.regrown(step)) for step in steps]
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    assert schedule.regrows
    assert not tfc.OneShot(0.5).regrows
    assert float(tfc.OneShot(0.5).regrown(3)) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(target_sparsity=1.0, end_step=10), "target_sparsity"),
        (dict(target_sparsity=0.5, end_step=10, drop_fraction=0.0), "drop_fraction"),
        (dict(target_sparsity=0.5, end_step=10, drop_fraction=True), "drop_fraction"),
        (dict(target_sparsity=0.5, end_step=-1), "end_step"),
        (dict(target_sparsity=0.5, end_step=10, begin_step=10), "after `begin_step`"),
        (dict(target_sparsity=0.5, end_step=10, frequency=0), "frequency"),
    ],
)
def test_bad_regrowth_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfc.Regrowth(**arguments)


@keras.saving.register_keras_serializable(package="test_schedules")
def halving(step):
    return 1.0 - ops.power(0.5, ops.floor(ops.cast(step, "float32") / 2.0))


@keras.saving.register_keras_serializable(package="test_schedules")
def vanishing(step):
    return 0.9 * ops.exp(-ops.cast(step, "float32"))


@keras.saving.register_keras_serializable(package="test_schedules")
def too_sparse(step):
    return ops.cast(step, "float32") / 10.0


@keras.saving.register_keras_serializable(package="test_schedules")
def branching(step):
    return 0.5 if step > 3 else 0.0


@keras.saving.register_keras_serializable(package="test_schedules")
def vector(step):
    return ops.ones((3,)) * 0.5


@pytest.mark.on_jax
def test_a_users_function_is_a_schedule():
    schedule = tfc.FunctionSchedule(halving, begin_step=1, end_step=7, frequency=3)
    due, sparsities = values(schedule, range(10))
    assert [step for step, updates in enumerate(due) if updates] == [1, 4, 7]
    np.testing.assert_allclose(sparsities, 1 - 0.5 ** (np.arange(10) // 2), atol=1e-6)
    with pytest.raises(ValueError, match=r"1 at step \d+ from .*halving.*keras.ops.clip"):
        tfc.FunctionSchedule(halving)


def test_functions_that_cannot_be_schedules_are_refused():
    def unregistered(step):
        return 0.5

    for function in (lambda step: 0.5, unregistered, functools.partial(halving)):
        with pytest.raises(ValueError, match="register_keras_serializable"):
            tfc.PruneConfig(function)
    with pytest.raises(ValueError, match=r"sparsity in \[0, 1\). Received: 1 at step 10"):
        tfc.FunctionSchedule(too_sparse, frequency=1)
    with pytest.raises(ValueError, match=r"scalar. Received: shape \(3,\)"):
        tfc.FunctionSchedule(vector)
    with pytest.raises(ValueError, match="keras.ops.where"):
        tfc.FunctionSchedule(branching)
    with pytest.raises(ValueError, match="a registered function"):
        tfc.PruneConfig(tfc.OneShot)


@pytest.mark.on_jax
def test_a_model_with_a_function_of_its_own_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8)])
    pruned = tfc.prune(model, tfc.FunctionSchedule(halving, end_step=6, frequency=2))
    pruned.compile("sgd", "mse")
    data = np.ones((4, 8), "float32"), np.ones((4, 8), "float32")
    pruned.fit(*data, epochs=3, verbose=0)  # steps 0, 1, 2
    assert tfc.sparsity(pruned) == 0.5
    pruned.save(tmp_path / "pruned.keras")
    loaded = tfc.load(tmp_path / "pruned.keras")
    loaded.compile("sgd", "mse")
    loaded.fit(*data, epochs=4, verbose=0)  # to step 6
    assert tfc.sparsity(loaded) == 0.875


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (tfc.ConstantSparsity(0.3), 0.3),
        (tfc.OneShot(0.4, step=3), 0.4),
        (tfc.Regrowth(0.9, end_step=10), 0.9),
        (tfc.PolynomialSparsity(0.0, 0.8, 0, 100), 0.8),
        (tfc.ExponentialSparsity(0.0, 0.7, 0, 100), 0.7),
        (tfc.CosineSparsity(0.6, 0.1, 0, 100), 0.1),
        (tfc.FunctionSchedule(halving, end_step=5, frequency=2), 0.75),
    ],
)
def test_final_is_the_sparsity_after_the_last_update(schedule, expected):
    assert schedule.final() == expected


def test_final_of_a_ramp_that_stops_early_and_of_a_function_without_an_end():
    with pytest.warns(UserWarning, match="last update"):
        schedule = tfc.PolynomialSparsity(0.0, 0.8, begin_step=0, end_step=250, power=1)
    assert schedule.final() == pytest.approx(0.64)
    with pytest.raises(ValueError, match="Give end_step"):
        tfc.FunctionSchedule(vanishing).final()


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan"), "0.5", True, None])
def test_sparsity_outside_of_its_range_is_refused(sparsity):
    with pytest.raises(ValueError, match=r"`target_sparsity` to be a number in \[0, 1\)"):
        tfc.ConstantSparsity(sparsity)
    with pytest.raises(ValueError, match="final_sparsity"):
        tfc.PolynomialSparsity(0.0, sparsity, 0, 100)


@pytest.mark.parametrize("cls", [tfc.PolynomialSparsity, tfc.CosineSparsity, tfc.ExponentialSparsity])
def test_bad_steps_are_refused(cls):
    with pytest.raises(ValueError, match="begin_step=10, end_step=5"):
        cls(0.0, 0.5, begin_step=10, end_step=5)
    with pytest.raises(ValueError, match="begin_step"):
        cls(0.0, 0.5, begin_step=-1, end_step=5)
    with pytest.raises(ValueError, match="frequency"):
        cls(0.0, 0.5, begin_step=0, end_step=5, frequency=0)
    with pytest.raises(ValueError, match="end_step"):
        cls(0.0, 0.5, begin_step=0, end_step=5.5)


def test_other_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="before"):
        tfc.ConstantSparsity(0.5, begin_step=10, end_step=5)
    with pytest.raises(ValueError, match="power"):
        tfc.PolynomialSparsity(0.0, 0.5, 0, 100, power=0)


def test_a_final_sparsity_that_is_never_reached_is_said():
    with pytest.warns(UserWarning, match="last update is at step 200"):
        tfc.PolynomialSparsity(0.0, 0.8, begin_step=0, end_step=250, frequency=100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tfc.PolynomialSparsity(0.0, 0.8, 0, 1950).final() == pytest.approx(0.8, abs=5e-5)


@pytest.mark.parametrize(
    "schedule",
    [
        tfc.ConstantSparsity(0.5, 3, 9, 2),
        tfc.PolynomialSparsity(0.1, 0.8, 0, 10, power=2, frequency=5),
        tfc.CosineSparsity(0.1, 0.8, 0, 10, frequency=5),
        tfc.ExponentialSparsity(0.1, 0.8, 0, 10, frequency=5),
        tfc.OneShot(0.5, 7),
        tfc.Regrowth(0.9, drop_fraction=0.2, begin_step=5, end_step=15, frequency=5),
        tfc.FunctionSchedule(halving, 1, 9, 2),
    ],
)
def test_configuration_round_trip(schedule):
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule)) == schedule
    config = tfc.PruneConfig(schedule, scope="global")
    fields = config.to_dict()
    assert tfc.PruneConfig.from_dict(fields) == config
    old = {**fields, "targets": fields["allocation"]}  # as saved models call it
    del old["allocation"]
    assert tfc.PruneConfig.from_dict(old) == config


def test_bad_configurations_are_refused():
    with pytest.raises(ValueError, match="criterion to be one of 'magnitude'"):
        tfc.PruneConfig(0.5, criterion="magnitud")
    with pytest.raises(ValueError, match="scope to be one of"):
        tfc.PruneConfig(0.5, scope="model")
    with pytest.raises(ValueError, match="Did you mean .channel"):
        tfc.PruneConfig(0.5, granularity="filter")
    with pytest.raises(ValueError, match="schedule"):
        tfc.PruneConfig("half")


@pytest.mark.parametrize("name", ["PolynomialSparsity", "CosineSparsity", "ExponentialSparsity"])
def test_sparsities_that_fall_are_refused_for_pruning(name):
    arguments = {"begin_step": 0, "end_step": 4, "frequency": 1}
    falling = getattr(tfc, name)(0.6, 0.1, **arguments)
    assert float(falling.sparsity(4)) == pytest.approx(0.1)
    with pytest.raises(ValueError, match=f"doesn't fall.*{name}.*Take tfcompress.Regrowth"):
        tfc.PruneConfig(falling)
    assert not getattr(tfc, name)(0.1, 0.1, **arguments).falls


def test_the_first_mask_of_a_constant_sparsity_is_the_last():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, use_bias=False, name="dense")])
    pruned = tfc.prune(model, tfc.ConstantSparsity(0.5, frequency=1))
    pruned.compile(keras.optimizers.SGD(1.0), "mse")
    generator = np.random.default_rng(0)
    mask = pruned.get_layer("dense").transforms[0][1].mask
    masks = []
    for _ in range(4):
        pruned.train_on_batch(generator.normal(size=(8, 6)), generator.normal(size=(8, 4)))
        masks.append(ops.convert_to_numpy(mask.value))
    assert all(np.array_equal(one, masks[0]) for one in masks)
    assert masks[0].sum() == 12
