"""Arguments are what they are said to be: what is merely true is no flag, and numbers end somewhere."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tfcompress.core.arguments import check_choice, check_count, check_flag, check_model, check_number
from tfcompress.graph import LayerChoice

X, Y = np.ones((4, 4), "float32"), np.array([0, 1, 0, 1])


def model():
    return keras.Sequential([keras.Input((4,), name="x"), keras.layers.Dense(2, name="y")])


FLAGS = {
    "load.unsafe": lambda value: tfc.load("model.keras", unsafe=value),
    "save.overwrite": lambda value: tfc.save(model(), "model.keras", overwrite=value),
    "export.overwrite": lambda value: tfc.export(model(), "model.onnx", overwrite=value),
    "activations.symmetric": lambda value: tfc.ActivationSpec(symmetric=value),
    "activations.dynamic": lambda value: tfc.ActivationSpec(dynamic=value),
    "config.float16": lambda value: tfc.QuantizeConfig(float16=value),
    "quantize.equalize": lambda value: tfc.quantize(model(), "int8", X, equalize=value),
    "quantize.correct_bias": lambda value: tfc.quantize(model(), "int8", X, correct_bias=value),
    "quantize.reestimate_batch_norm": lambda value: tfc.quantize(model(), "int8", X, reestimate_batch_norm=value),
    "uniform_quantize.symmetric": lambda value: tfc.uniform_quantize(X, symmetric=value),
    "uniform_quantize.narrow": lambda value: tfc.uniform_quantize(X, narrow=value),
    "compare.latency": lambda value: tfc.compare({"a": model()}, X, Y, latency=value),
    "compare.from_logits": lambda value: tfc.compare({"a": model()}, X, Y, latency=False, from_logits=value),
    "evaluate.from_logits": lambda value: tfc.evaluate(model(), X, Y, from_logits=value),
    "distill.from_logits": lambda value: tfc.distill(model(), model(), from_logits=value),
    "sensitivity.progress": lambda value: tfc.sensitivity(model(), (X, Y), progress=value),
    "PrecisionMonitor.reference": lambda value: tfc.callbacks.PrecisionMonitor(reference=value),
}


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_true_or_false(name):
    for value in ("no", "yes", 1, 0, [], "True"):
        with pytest.raises(TypeError, match=rf"Expected {name.split('.')[1]} to be True or False. Received: "):
            FLAGS[name](value)


def test_flags_of_numpy_are_flags():
    assert check_flag("unsafe", np.bool_(True)) is True
    assert tfc.ActivationSpec(symmetric=np.bool_(True)).symmetric is True


@pytest.mark.parametrize("value", [0, -1, 1.0, "3", True, None, [2], float("nan"), 10**12])
def test_counts_are_whole_and_end_somewhere(value):
    calls = [
        lambda: tfc.benchmark(model(), threads=value),
        lambda: tfc.benchmark(model(), warmup=value),
        lambda: tfc.benchmark(model(), batch_size=value),
        lambda: tfc.evaluate(model(), X, Y, batch_size=value),
        lambda: tfc.quantize(model(), "int8", X, batch_size=value),
        lambda: tfc.sensitivity(model(), (X, Y), batch_size=value),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"Expected (threads|warmup|batch_size) to be an integer of at least 1"):
            call()
    assert check_count("n", np.int64(3)) == 3


def test_numbers_and_choices():
    assert check_number("share", np.float32(0.5), 0, 1) == 0.5
    for value in (float("nan"), float("inf"), -1, 2, "1", None, True, 1j):
        with pytest.raises(ValueError, match="Expected share to be a number of at least 0, up to 1. Received: share="):
            check_number("share", value, 0, 1)
    with pytest.raises(ValueError, match=r"Expected seconds to be a number above 0"):
        check_number("seconds", 0, 0, above=True)
    check_choice("task", None, (None, "binary"))
    for value in (0, ["binary"], np.ones(2), "Binary"):
        with pytest.raises(ValueError, match="Expected task to be one of None, 'binary'. Received: task="):
            check_choice("task", value, (None, "binary"))


def test_selectors():
    chosen = LayerChoice(name for name in ("y",))  # gone through once only
    assert [layer.name for layer in model().layers if chosen.includes(layer)] == ["y"]
    chosen.check()
    for wrong in (keras.layers.Dense(2), np.ones(()), [keras.layers.Dense(2)], b"y"):
        with pytest.raises(TypeError, match="Expected `layers` to be None, a layer's name.*Received"):
            LayerChoice(wrong)
    with pytest.raises(ValueError, match=r"function from any layer.*Received.*ZeroDivisionError for layer 'y'"):
        tfc.prune(model(), 0.5, layers=lambda layer: 1 / 0)


def test_fields():
    config = tfc.QuantizeConfig()
    assert tfc.QuantizeConfig.from_dict(config.to_dict()) == config
    for wrong in ({}, {**config.to_dict(), "bits": 8}, {"weights": {"bit": 8}, "activations": None}):
        with pytest.raises(ValueError, match="Expected the fields of a (QuantizeConfig|WeightSpec).*Received"):
            tfc.QuantizeConfig.from_dict(wrong)
    with pytest.raises(TypeError, match="Expected the fields of a PruneConfig by name.*Received: 3"):
        tfc.PruneConfig.from_dict(3)


def test_what_is_no_model_but_nearly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tf_keras

        legacy = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(4,))])
    nearly = {
        "save it as .h5": legacy,
        "It is a class": keras.Sequential,
        "It is a layer": keras.layers.Dense(2),
        "tfcompress.load": "model.keras",
    }
    for text, given in nearly.items():
        with pytest.raises(TypeError, match=f"keras.Model .of Keras 3.*{text}"):
            check_model(given)
    for verb in (tfc.strip, tfc.summary, tfc.prune_once, tfc.quantize, tfc.full_precision, tfc.shrink, tfc.evaluate):
        arguments = {tfc.prune_once: (0.5,), tfc.evaluate: (X, Y)}.get(verb, ())
        with pytest.raises((TypeError, ValueError), match=r"save it as .h5"):
            verb(legacy, *arguments)
