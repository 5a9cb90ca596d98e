"""The table of layers: what mixed precision adds to it. (What compression adds is tested where it is made.)"""

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tfcompress.evaluation import onnx_weights


def test_of_a_model_in_mixed_precision():
    layers = [keras.Input((8,)), keras.layers.Dense(4, name="hidden"), keras.layers.Dense(2, name="logits")]
    model = keras.Sequential(layers)
    mixed = tfc.summary(tfc.prune_once(tfc.mixed_precision(model, "mixed_bfloat16"), 0.5))
    assert {row.layer: row.precision for row in mixed.rows} == {"hidden": "bfloat16", "logits": "float32"}
    assert "computes in" in str(mixed)
    assert "computes in" not in str(tfc.summary(model))
    quantized = str(tfc.summary(tfc.quantize(tfc.mixed_precision(model, "mixed_bfloat16"), "int8")))
    assert "computes in" in quantized


def test_long_paths_of_kernels_leave_room_for_names_of_layers():
    recurrent = keras.layers.Bidirectional(keras.layers.GRU(2), name="reads_both_ways")
    pruned = tfc.prune_once(keras.Sequential([keras.Input((3, 4)), recurrent]), 0.5)
    assert tfc.summary(pruned).table(100).count("reads_both_ways") == 4


@pytest.mark.parametrize("recipe", ["int8", "dynamic_int8"])
def test_bytes_are_those_of_the_file_of_a_format(recipe, tmp_path):
    """ONNX files have small kernels that compute in float as float32."""
    L = keras.layers
    layers = [
        L.Conv2D(4, 3, activation="relu", name="conv"),
        L.Conv2DTranspose(8, 3, activation="relu", name="large"),  # float in ONNX
        L.Conv2DTranspose(1, 2, activation="relu", name="small"),
        L.Flatten(),
        L.Dense(3, name="head"),
    ]
    model = keras.Sequential([keras.Input((4, 4, 4)), *layers])
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 4)).astype("float32")
    quantized = tfc.quantize(model, recipe, x if recipe == "int8" else None)
    file = tfc.export(quantized, tmp_path / "m.onnx", verify=False).path
    stored = {weight.values.size: weight.dtype for weight in onnx_weights.weights(file)}
    assert [stored[size] for size in (32, 144, 288, 75)] == ["float32", "int8", "int8", "int8"]
    for format in ("onnx", "tflite"):
        rows = [row for row in tfc.summary(quantized, format).rows if row.weight]
        assert len(rows) == 4
        for row in rows:
            wide = format == "onnx" and stored[row.size] == "float32"
            assert row.nbytes == row.size * (4 if wide else 1)
            assert ("stored as float32: fewer than 64 weights" in row.status) == wide


def test_a_plain_onnx_file_has_weights_of_4_bits_in_8():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(32, name="dense")])
    quantized = tfc.quantize(model, "int4_weights")
    assert [tfc.summary(quantized, format).rows[0].nbytes for format in (None, "tflite", "onnx")] == [128, 128, 256]
