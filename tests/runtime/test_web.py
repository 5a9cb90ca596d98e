"""`.onnx` files in onnxruntime-web: WebAssembly, in Node, where Node and the npm package are there."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import tfcompress as tfc
from benchmarks import web
from tfcompress.evaluation.open_predictor import open_predictor
from tfcompress.export.onnx.weights import coding
from tfcompress.export.onnx.weights.fields import Fields
from tfcompress.export.onnx.weights.gaps import Gaps
from tfcompress.export.onnx.weights.mask import Mask
from tfcompress.export.onnx.weights.table import Table

RECIPES = {"float32": None, "int8": "int8", "dynamic_int8": "dynamic_int8", "int16x8": "int16x8"}


@pytest.mark.skipif(web.missing() is not None, reason=str(web.missing()))
def test_the_same_numbers_as_in_onnx_runtime(tmp_path, monkeypatch):
    keras.utils.set_random_seed(0)
    image, number = keras.Input((12, 12, 3), name="image"), keras.Input((4,), name="number")
    h = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    h = keras.layers.ReLU(max_value=6.0)(keras.layers.BatchNormalization()(h))
    h = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu")(h)
    h = keras.layers.GlobalAveragePooling2D()(h)
    h = keras.layers.Concatenate()([h, keras.layers.Dense(8, activation="gelu")(number)])
    named = {"classes": keras.layers.Dense(5, activation="softmax")(h), "size": keras.layers.Dense(1)(h)}
    model = keras.Model([image, number], named)
    random = np.random.default_rng(0)
    x = {"image": random.normal(size=(16, 12, 12, 3)), "number": random.normal(size=(16, 4))}
    x = {name: value.astype(np.float32) for name, value in x.items()}
    files: list[Any] = []
    for recipe, config in RECIPES.items():
        made = tfc.quantize(model, config, x) if config else model
        files.append(tfc.export(made, tmp_path / f"{recipe}.onnx", verify=x).path)
    # Files that unpack themselves: each weight in another form, so that every decoder is there.
    forms = (Table(4), Mask(4), Gaps(3, 4), Fields(4), Gaps(7, 8))
    monkeypatch.setattr(
        coding, "choose", lambda weights, opset, bits: [forms[i % len(forms)] for i in range(len(weights))]
    )
    made = tfc.quantize(model, tfc.QuantizeConfig(tfc.WeightSpec(bits=4)), x)
    plain, coded = (tfc.export(made, tmp_path / f"{how}.onnx", verify=x, weights=how) for how in ("plain", "coded"))
    assert {one.form for one in coded.weights} == {*map(str, forms)}
    results = web.run(pairs := [(path, x) for path in (*files, plain.path, coded.path)])
    for name, value in results[-2].outputs.items():
        np.testing.assert_array_equal(results[-1].outputs[name], value)
    for (path, given), result in zip(pairs, results, strict=True):
        expected = open_predictor(path).run(given)
        assert set(result.outputs) == {"classes", "size"}
        for name, value in expected.items():
            assert result.outputs[name].shape == value.shape
            np.testing.assert_allclose(result.outputs[name], value, rtol=1e-5, atol=1e-6)


def test_what_is_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(web.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="no program named node. Install Node"):
        web.run([])
    monkeypatch.setattr(web.shutil, "which", lambda name: name)
    monkeypatch.setattr(web, "PACKAGES", tmp_path)
    with pytest.raises(RuntimeError, match="Run make .venv/.web"):
        web.run([])
