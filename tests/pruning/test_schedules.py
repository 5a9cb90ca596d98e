"""Schedules, value by value."""

from __future__ import annotations

import keras
import numpy as np
import pytest

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
            "PolynomialDecay",
            dict(initial_sparsity=0.2, final_sparsity=0.8, begin_step=5, end_step=45, frequency=4),
        ),
        (
            "PolynomialDecay",
            dict(initial_sparsity=0.0, final_sparsity=0.9, begin_step=0, end_step=50, power=1, frequency=10),
        ),
        (
            "PolynomialDecay",
            dict(initial_sparsity=0.5, final_sparsity=0.1, begin_step=1, end_step=51, power=2.5, frequency=1),
        ),
    ],
)
def test_equal_to_tfmot_at_every_step(tfmot, name, arguments):
    steps = range(60)
    ours = values(getattr(tfc, name)(**arguments), steps)
    theirs = values(getattr(tfmot.sparsity.keras, name)(**arguments), steps)
    assert ours[0] == theirs[0]
    np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=1e-6)


def test_cosine_is_half_a_cosine():
    schedule = tfc.CosineDecay(0.1, 0.9, begin_step=10, end_step=50, frequency=2)
    steps = np.arange(60)
    progress = np.clip((steps - 10) / 40, 0, 1)
    expected = 0.9 - 0.8 * (1 + np.cos(np.pi * progress)) / 2
    due, sparsities = values(schedule, steps)
    np.testing.assert_allclose(sparsities, expected, atol=1e-6)
    assert due == [10 <= step <= 50 and step % 2 == 0 for step in steps]


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, float("nan"), "0.5", True, None])
def test_sparsity_outside_of_its_range_is_refused(sparsity):
    with pytest.raises(ValueError, match=r"`target_sparsity` to be a number in \[0, 1\)"):
        tfc.ConstantSparsity(sparsity)
    with pytest.raises(ValueError, match="final_sparsity"):
        tfc.PolynomialDecay(0.0, sparsity, 0, 100)


@pytest.mark.parametrize("cls", [tfc.PolynomialDecay, tfc.CosineDecay])
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
        tfc.PolynomialDecay(0.0, 0.5, 0, 100, power=0)


def test_a_final_sparsity_that_is_never_reached_is_said():
    with pytest.warns(UserWarning, match="last update is at step 200"):
        tfc.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=250, frequency=100)


@pytest.mark.parametrize(
    "schedule",
    [
        tfc.ConstantSparsity(0.5, 3, 9, 2),
        tfc.PolynomialDecay(0.1, 0.8, 0, 10, power=2, frequency=5),
        tfc.CosineDecay(0.1, 0.8, 0, 10, frequency=5),
    ],
)
def test_configuration_round_trip(schedule):
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule)) == schedule
    config = tfc.PruneConfig(schedule, scope="global")
    assert tfc.PruneConfig.from_dict(config.to_dict()) == config


def test_bad_configurations_are_refused():
    with pytest.raises(ValueError, match="`criterion` to be one of 'magnitude'"):
        tfc.PruneConfig(0.5, criterion="magnitud")
    with pytest.raises(ValueError, match="`scope` to be one of"):
        tfc.PruneConfig(0.5, scope="model")
    with pytest.raises(ValueError, match="`granularity`"):
        tfc.PruneConfig(0.5, granularity="filter")
    with pytest.raises(ValueError, match="schedule"):
        tfc.PruneConfig("half")
