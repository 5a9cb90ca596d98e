"""Weights of few values in tables: how many there are and how they are packed, and that TFLite Micro reads them."""

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tfc
from tests.once import once
from tfcompress.export import conversion
from tfcompress.export.tflite.flatbuffer import operators
from tfcompress.export.tflite.weights import lookup_tables
from tfcompress.export.tflite.weights.lookup_tables import as_tables

X = np.random.default_rng(0).normal(size=(16, 8, 8, 4)).astype("float32")


@once
def clustered():
    parts = [layers.Conv2D(12, 3, name="conv"), layers.DepthwiseConv2D(5, name="depthwise"), layers.Flatten()]
    model = keras.Sequential([keras.Input((8, 8, 4), name="x"), *parts, layers.Dense(20, name="dense")])
    for layer in (model.get_layer("conv"), model.get_layer("depthwise")):  # four values for each channel
        kernel = np.random.default_rng(1).integers(-2, 2, layer.get_weights()[0].shape).astype("float32")
        layer.set_weights([kernel * np.linspace(1, 2, kernel.shape[2]).reshape(-1, 1), *layer.get_weights()[1:]])
    return tfc.quantize(tfc.cluster(model, 4, layers="dense"), "int8", data=X)


def test_weights_are_looked_up_bit_by_bit_the_same(tmp_path):
    pytest.importorskip("tflite_micro")
    plain = tfc.export(clustered(), tmp_path / "plain.tflite", target="microcontroller", verify=False)
    coded = tfc.export(clustered(), tmp_path / "coded.tflite", target="microcontroller", weights="coded")
    assert coded.nbytes < plain.nbytes
    kinds = [op.name for op in operators(coded.path.read_bytes())]
    assert kinds.count("TFLM_DECODE") == coded.operators.kinds["TFLM_DECODE"] >= 1
    assert any("in tables of at most 4 values" in note for note in coded.notes)
    x = np.random.default_rng(2).integers(-128, 128, (20, 8, 8, 4)).astype("int8")
    np.testing.assert_array_equal(coded.predict(x), plain.predict(x))
    assert tfc.evaluate(coded, X, np.arange(16) % 20).samples == 16
    opened = tfc.Artifact.open(coded.path)
    assert opened.runtime == coded.runtime == "tflm"
    np.testing.assert_array_equal(opened.predict(x), plain.predict(x))


def test_a_table_for_each_channel_where_each_has_a_scale(tmp_path):
    path = tfc.export(clustered(), tmp_path / "m.tflite", verify=False, names=True).path
    made = as_tables(path.read_bytes())[1]
    assert made
    assert all(table.nbytes < table.plain and table.values <= 2**table.bits for table in made)
    assert {table.bits for table in made} == {2}


def test_tables_that_compute_something_else_are_no_file(tmp_path, monkeypatch):
    pytest.importorskip("tflite_micro")

    def wrong(content):
        other = bytearray(as_tables(content)[0])
        place = other.find(bytes([0, 1, 0, 0, 1]))  # what describes a table; its values are behind
        other[place + 16 : place + 20] = bytes(4)
        return bytes(other), as_tables(content)[1]

    monkeypatch.setattr(conversion, "as_tables", wrong)
    with pytest.raises(tfc.ParityError, match="the same outputs with weights='coded'"):
        tfc.export(clustered(), tmp_path / "m.tflite", target="microcontroller", weights="coded")
    assert not list(tmp_path.iterdir())


def test_other_targets_have_none(tmp_path):
    with pytest.raises(ValueError, match="or with target='microcontroller'"):
        tfc.export(clustered(), tmp_path / "m.tflite", weights="coded", target="android")


def test_what_is_said():
    tables = [lookup_tables.TableWeight(16, 4, False, 1000, 540), lookup_tables.TableWeight(9, 4, True, 500, 300)]
    assert lookup_tables.said_of_tables(tables) == (
        "2 weights in tables of at most 16 values: 840 bytes in place of 1,500.",
    )
