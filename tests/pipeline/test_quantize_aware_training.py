"""Calibration samples, ranges that settle, zeros that stay, and the main job without training quantized."""

from __future__ import annotations

import functools
import json

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.pipeline import Data
from tfcompress.pipeline.quantize_aware_training import finds_ranges, settling
from tfcompress.pipeline.stages import silent
from tfcompress.quantization.quantize import quantize
from tfcompress.quantization.quantize_config import RECIPES
from tfcompress.recipes import compress_job as job_module
from tfcompress.recipes import run, work


@pytest.fixture
def clusters():
    """Three classes that are easy to tell apart, sorted as files often are."""
    generator = np.random.default_rng(0)
    y = np.sort(generator.integers(0, 3, 240))
    x = (np.eye(3)[y].repeat(4, axis=1) + generator.normal(0, 0.3, (240, 12))).astype("float32")
    return Data("clusters", x[::2], y[::2], x[1::2], y[1::2])


def zeros(model):
    kernels = [layer.get_weights()[0] for layer in tfc.strip(model).layers if layer.weights]
    return [kernel == 0 for kernel in kernels]


def test_samples_are_drawn_from_all_of_the_data(clusters):
    drawn = clusters.train.drawn(30)
    assert drawn.shape == (30, 12)
    assert len(np.unique(drawn, axis=0)) == 30
    assert len(np.unique(drawn[:, [0, 4, 8]].argmax(axis=1))) == 3  # the first 30 are of one class
    np.testing.assert_array_equal(drawn, clusters.train.drawn(30))
    assert not np.array_equal(drawn, clusters.train.drawn(30, seed=1))
    np.testing.assert_array_equal(clusters.train.drawn(1000), clusters.x_train)


def test_which_recipes_find_ranges():
    found = [name for name, config in RECIPES.items() if finds_ranges(config)]
    assert found == ["int8", "int8_per_tensor", "int16x8", "w4a8"]


def test_ranges_settle_before_the_end(clusters):
    model = keras.Sequential([keras.Input((12,)), L.Dense(8, activation="relu"), L.Dense(3)])
    config = settling(RECIPES["int8"], 8)
    assert config.freeze_batch_norm_step == config.freeze_ranges_step == 6
    quantized = quantize(model, config, data=clusters.x_train)
    quantized.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ranges = []
    for batch in range(8):
        quantized.train_on_batch(clusters.x_train + batch, clusters.y_train)
        ranges.append(quantized.get_layer(quantized.layers[1].name).range)
    assert ranges[4] != ranges[5]
    assert ranges[5] == ranges[6] == ranges[7]


def test_the_main_job_calibrates_where_nothing_is_trained_quantized(clusters, tmp_path, monkeypatch):
    monkeypatch.setattr(work, "compare", functools.partial(tfc.compare, latency=False))
    # tests/cli/test_scripts.py makes all files.
    some = ("dense.tflite", "pruned.tflite", "pruned_int8.tflite", "pruned_int8.onnx")
    monkeypatch.setattr(job_module, "FILES", {name: job_module.FILES[name] for name in some})
    model = keras.Sequential([keras.Input((12,)), L.Dense(32, activation="relu"), L.Dense(3)])
    names = []

    def stage(text, epochs=0):
        names.append(text)
        return silent(text)

    how = {"clustering": tfc.LayerConfigs({".*": 12}), "finetune_epochs": 8, "qat_epochs": 0, "learning_rate": 0.02}
    report = run(
        job_module.recipe_of(trained=True, **how), model, clusters, folder=tmp_path / "out", stage=stage
    ).report
    assert "cluster and fine-tune" in names
    assert "train quantized" not in names
    loaded = {name: tfc.load(tmp_path / "out" / name) for name in ("pruned.keras", "quantized.keras")}
    for old, new in zip(zeros(loaded["pruned.keras"]), zeros(loaded["quantized.keras"]), strict=True):
        assert np.all(new[old])
    for wrapper in wrapped_layers(loaded["quantized.keras"]):
        assert max(len(np.unique(channel)) for channel in wrapper.encoded()[0].integers.T) <= 12
    assert tfc.sparsity(loaded["quantized.keras"]) >= tfc.sparsity(loaded["pruned.keras"]) >= 0.79
    for name in ("quantized.keras", "pruned_int8.tflite", "pruned_int8.onnx"):
        assert report[name].metrics.accuracy > 0.95
        assert report[name].size.sparsity >= report["pruned.tflite"].size.sparsity
    assert report["pruned_int8.tflite"].size.parameters == report["pruned_int8.onnx"].size.parameters == 515
    rows = json.loads((tmp_path / "out" / "report.json").read_text())["candidates"]
    assert [row["name"] for row in rows] == [*job_module.MODELS, *job_module.FILES]
