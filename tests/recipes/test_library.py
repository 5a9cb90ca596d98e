"""The recipes that have a name."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import layers as L

from tfcompress.pipeline import Data
from tfcompress.recipes import Export, Recipe, run
from tfcompress.recipes.transforms import trial

LIBRARY = Recipe.library()
USUAL = ("int8",)
TRIED = ("channels_int8", "int4_weights", "prune_cluster_int8", "w3a8_distilled")


@functools.cache
def data():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 96)
    x = generator.normal(0, 0.3, (96, 6, 6, 1)).astype("float32")
    x[np.arange(96), y * 2, y * 2] += 2
    return Data("made", x[:64], y[:64], x[64:], y[64:])


def model():
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((6, 6, 1), name="image"),
        L.Conv2D(16, 3, padding="same", activation="relu", name="stem"),
        L.Conv2D(8, 3, padding="same", activation="relu", name="middle"),
        L.Flatten(),
        L.Dense(3, name="logits"),
    ]
    return keras.Sequential(layers, name="small")


def shortened(recipe):
    """Return a recipe with an epoch for each training, and nothing timed."""
    quick = {"epochs": 1, "batch_size": 16}
    other = {"finetune": quick, "distill": quick, "report": {"latency": False, "layers": False}}
    values = recipe.to_dict()
    for step in values["steps"]:
        step.update(other.get(step["step"], {}))
        if step.get("rounding") == "adaround":
            step["rounding"] = {"adaround": {"steps": 20}}
    return Recipe.from_dict(values)


def test_each_has_a_sentence_and_a_name_of_its_own():
    kinds = {step.called() for recipe in LIBRARY.values() for step in recipe.steps}
    assert {"equalize", "prune", "cluster", "quantize", "distill", "finetune", "shrink", "export", "report"} <= kinds
    for name, recipe in LIBRARY.items():
        assert recipe.name == name
        assert recipe.when.endswith(".") and 40 < len(recipe.when) <= 130
        assert recipe.seed == 0


def some(names):
    """Return all recipes as parameters, of which others are rare."""
    return [pytest.param(name, marks=() if name in names else pytest.mark.rare) for name in LIBRARY]


@pytest.mark.parametrize("name", some(TRIED))
def test_each_fits_a_small_network(name):
    given = model()
    made = trial(LIBRARY[name], given, data())
    assert made is given if name == "float16" else made.output_shape == (None, 3)


@pytest.mark.parametrize("name", some(USUAL))
def test_each_makes_its_files(name, tmp_path):
    recipe = shortened(LIBRARY[name])
    made = run(recipe, model(), data(), folder=tmp_path)
    files = [file for step in recipe.steps if isinstance(step, Export) for file in step.files]
    assert list(made.artifacts) == files
    assert {row.name for row in made.report.candidates} == set(files)
    assert all(artifact.parity is not None for artifact in made.artifacts.values())
    assert "float32" not in {artifact.precision for artifact in made.artifacts.values()}


def test_weights_that_the_target_does_not_decode_are_refused_before_any_training():
    steps = [{"step": "quantize", "config": "int8"}]
    steps.append({"step": "export", "files": ["m.tflite"], "target": "android", "weights": "coded"})
    recipe = Recipe.from_dict({"name": "coded", "steps": steps})
    with pytest.raises(ValueError, match=r"At steps\[1\].*Expected weights='plain' or 'auto' for a .tflite file"):
        trial(recipe, model(), data())
