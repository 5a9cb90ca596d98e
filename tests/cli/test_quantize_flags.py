"""What the flags of `quantize` mean together."""

from __future__ import annotations

import types

import keras
import numpy as np
import pytest
from keras import layers as L

from tfcompress.cli.quantize_flags import check, config_of, data_for
from tfcompress.cli.wrong_use import UsageError
from tfcompress.pipeline import Data
from tfcompress.quantization.quantize_config import RECIPES

DEFAULTS = {
    "model": "m.keras", "recipe": "int8", "range": None, "inference_io": "float32", "outputs": None, "qat_epochs": 0,
    "config": None,
    "freeze_ranges_epoch": None, "freeze_ranges_step": None, "freeze_batch_norm_epoch": None,
    "freeze_batch_norm_step": None, "correct_bias": False, "reestimate_batch_norm": False,
    "rounding": "nearest", "html": None, "markdown": None,
}  # fmt: skip


class Flags(dict):
    """Flags as absl gives them: values as attributes, and objects with a value as items."""

    def __init__(self, **given):
        assert not given.keys() - DEFAULTS.keys()
        super().__init__({name: types.SimpleNamespace(value=value) for name, value in {**DEFAULTS, **given}.items()})

    def __getattr__(self, name):
        return self[name].value


def test_recipes_are_those_of_the_package():
    for recipe in RECIPES:
        check(Flags(recipe=recipe))
        assert config_of(Flags(recipe=recipe), 10) == RECIPES[recipe]


def test_a_range_of_its_own():
    config = config_of(Flags(range="entropy", recipe="int16x8"), 10)
    assert config.activations.range == "entropy"
    assert config.activations.bits == 16


def test_epochs_become_steps():
    flags = Flags(qat_epochs=4, freeze_ranges_epoch=3, freeze_batch_norm_step=7)
    check(flags)
    config = config_of(flags, 25)
    assert (config.freeze_ranges_step, config.freeze_batch_norm_step) == (75, 7)
    assert config_of(Flags(qat_epochs=4, freeze_batch_norm_epoch=0), 25).freeze_batch_norm_step == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"range": "mse", "recipe": "dynamic_int8"}, "no --range with --recipe=dynamic_int8"),
        ({"range": "ema", "recipe": "int8_weights"}, "no --range"),
        ({"inference_io": "int8"}, "--outputs with --inference_io=int8"),
        ({"inference_io": "uint8", "outputs": ["o.onnx"], "recipe": "int16x8"}, "Take --recipe=int8"),
        ({"inference_io": "int8", "outputs": ["o.onnx"], "recipe": "float16"}, "Take --recipe=int8"),
        ({"freeze_ranges_epoch": 0}, "--qat_epochs with --freeze_ranges_epoch"),
        ({"freeze_batch_norm_step": 0}, "--qat_epochs with --freeze_batch_norm_step"),
        ({"freeze_ranges_epoch": 1, "freeze_ranges_step": 5, "qat_epochs": 3}, "one of"),
        ({"freeze_batch_norm_epoch": 3, "qat_epochs": 3}, "below --qat_epochs=3. Received: 3"),
    ],
)
def test_flags_that_contradict_each_other(flags, message):
    with pytest.raises(UsageError, match=message):
        check(Flags(**flags))


def test_a_step_after_the_end():
    with pytest.raises(UsageError, match="below 30, the steps of training. Received: 30"):
        config_of(Flags(qat_epochs=3, freeze_ranges_step=30), 10)


def test_data_is_asked_for_where_it_is_needed():
    model = keras.Sequential([keras.Input((6,)), L.Dense(3)])
    x, y = np.zeros((4, 6), "float32"), np.array([0, 1, 2, 0])
    given = Data("given", x, y, x, y)
    assert data_for(model, given, Flags()) is given
    for flags, reason in [
        ({}, "--recipe=int8"),
        ({"recipe": "int16x8"}, "--recipe=int16x8"),
        ({"recipe": "int8_weights", "qat_epochs": 2}, "--qat_epochs=2"),
        ({"recipe": "int8_weights", "correct_bias": True}, "--correct_bias"),
        ({"recipe": "int4_weights", "rounding": "gptq"}, "--rounding=gptq"),
        ({"recipe": "dynamic_int8", "reestimate_batch_norm": True}, "--reestimate_batch_norm"),
    ]:
        with pytest.raises(UsageError, match=f"--data with {reason}"):
            data_for(model, None, Flags(**flags))
    for recipe in ("int8_weights", "dynamic_int8", "float16"):
        assert data_for(model, None, Flags(recipe=recipe)) is None
    images = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(10)], name="digits")
    assert data_for(images, None, Flags()).name == "digits"
    images.name = "of_something_else"
    with pytest.raises(UsageError, match=f"nothing says that {Flags().model} was trained on scikit-learn's digits"):
        data_for(images, None, Flags())
    with pytest.raises(ValueError, match="samples of shape"):
        data_for(images, given, Flags())
