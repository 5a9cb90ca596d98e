"""Which layers would overflow: exactly those that do."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tests.precision import networks
from tests.precision.networks import floats, inputs_of, predictions

pytestmark = pytest.mark.filterwarnings("ignore:mixed_float16 is slow on a CPU:UserWarning")


def growing():
    """A model whose layers multiply by 100, 1000 and 1/1000."""
    inputs = keras.Input((2,), name="x")
    x = inputs
    for name, factor in (("small", 100.0), ("large", 1000.0), ("back", 1e-3)):
        x = L.Dense(2, kernel_initializer=keras.initializers.Identity(factor), name=name)(x)
    return keras.Model(inputs, L.Dense(1, name="last", kernel_initializer="ones")(x), name="growing")


@pytest.mark.on_jax
def test_the_largest_of_each_layer():
    x = np.array([[1.0, -3.0], [2.0, 0.5]], "float32")
    report = tfc.check_float16(growing(), x, batch_size=1)
    found = {row.layer: (row.largest_input, row.largest_output, row.largest_weight) for row in report.rows}
    for name, wanted in {"small": (3, 300, 100), "large": (300, 3e5, 1000), "back": (3e5, 300, 1e-3)}.items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5)
    assert report.overflows == ["large", "back"]
    assert report.samples == 2
    assert report.rows[0].headroom == pytest.approx(65504 / 300)
    assert report.rows[1].headroom < 1
    assert [row.precision for row in report.rows] == ["float16"] * 3 + ["float32"]


@pytest.mark.on_jax
def test_what_it_says_is_what_happens():
    model, x = growing(), np.ones((4, 2), "float32")
    report = tfc.check_float16(model, x)
    assert not np.all(np.isfinite(predictions(tfc.mixed_precision(model, "mixed_float16"), x)[0]))
    kept = tfc.mixed_precision(model, "mixed_float16", keep_float32=report.overflows)
    np.testing.assert_allclose(predictions(kept, x)[0], 200.0, rtol=1e-2)
    assert tfc.check_float16(model, x, keep_float32=report.overflows).overflows == []


def test_a_mixed_model_is_checked_in_float32():
    model, x = growing(), np.ones((4, 2), "float32")
    assert tfc.check_float16(tfc.mixed_precision(model, "mixed_float16"), x).rows == tfc.check_float16(model, x).rows


def test_inputs_that_a_layer_casts():
    x = np.full((4, 8), 7e4, "float32")
    assert tfc.check_float16(networks.mlp(), x).overflows == ["hidden"]
    layers = [keras.Input((8,)), L.Rescaling(1e-4, name="rescaling"), L.Dense(4), L.Dense(2)]
    assert tfc.check_float16(keras.Sequential(layers), x).overflows == []


@pytest.mark.skipif(not ON_TENSORFLOW, reason="HALF is bfloat16 there")
def test_what_overflows_inside_of_a_layer():
    """-1e5 before silu is -inf in float16, and -inf * 0 is NaN; what the layer returns in float32 is 0."""
    identity = keras.initializers.Identity(-1000.0)
    layers = [keras.Input((2,)), L.Dense(2, "silu", kernel_initializer=identity, name="inside"), L.Dense(2), L.Dense(1)]
    model, x = keras.Sequential(layers), np.full((4, 2), 100.0, "float32")
    assert np.isnan(predictions(tfc.mixed_precision(model, "mixed_float16"), x)[0]).all()
    report = tfc.check_float16(model, x)
    assert report.overflows == ["inside"]
    assert (report.rows[0].inside, report.rows[0].largest_output, report.unseen) == (True, 0.0, "")
    assert "overflows inside" in str(report)
    kept = tfc.mixed_precision(model, "mixed_float16", keep_float32=report.overflows)
    np.testing.assert_allclose(predictions(kept, x)[0], predictions(model, x)[0], atol=1e-3)
    relu = keras.Sequential([keras.Input((2,)), L.Dense(2, "relu", kernel_initializer=identity), L.Dense(1)])
    assert tfc.check_float16(relu, x).overflows == []  # -inf becomes 0, as it should


def test_a_layer_that_casts_its_inputs_itself():
    layers = [keras.Input((4,)), L.LayerNormalization(name="norm"), L.Dense(3), L.Dense(1)]
    report = tfc.check_float16(keras.Sequential(layers), np.eye(4, dtype="float32") * 1e5)
    assert (report.rows[0].largest_input, report.overflows) == (1e5, [])


def test_a_device_without_float16(monkeypatch):
    def fails(*args):
        raise ValueError("no kernel here")

    monkeypatch.setattr("tfcompress.precision.range_check.cast", fails)
    report = tfc.check_float16(growing(), np.ones((4, 2), "float32"))
    assert (report.unseen, report.overflows) == ("no kernel here", ["large", "back"])
    assert "It didn't run in float16 here: no kernel here" in " ".join(str(report).split())


def test_weights_and_what_is_not_finite():
    model, x = networks.mlp(), floats(4, 8)
    model.layers[0].kernel.assign(np.where(np.arange(48).reshape(8, 6) == 5, 1e5, 0.0))
    row = tfc.check_float16(model, np.zeros((4, 8))).rows[0]
    assert (row.largest_weight, row.overflows) == (1e5, True)
    model.layers[0].kernel.assign(np.full((8, 6), np.nan))
    report = tfc.check_float16(model, x)
    assert report.rows[0].largest_weight == float("inf")
    assert "hidden" in report.overflows


def test_several_inputs_shared_layers_and_wrappers():
    model = networks.two_outputs()
    x = inputs_of(model)
    x["a"] = x["a"] * 1e5
    report = tfc.check_float16(tfc.prune(model, 0.5), x)
    assert "shared" in report.overflows
    assert [row.layer for row in report.rows].count("shared") == 1
    shared = next(row for row in report.rows if row.layer == "shared")
    assert shared.largest_input == np.abs(x["a"]).max()


def test_a_stream_of_batches_is_all_seen():
    model = growing()
    batches = [(np.full((2, 2), size, "float32"), np.zeros(2)) for size in (1.0, 5.0, 2.0)]
    report = tfc.check_float16(model, lambda: iter(batches))
    assert (report.samples, report.rows[0].largest_input) == (6, 5.0)


def test_the_table_and_the_file(tmp_path):
    report = tfc.check_float16(growing(), np.ones((4, 2), "float32"))
    text = str(report)
    assert "Overflow: large, back." in text
    assert "inference in float32" in text
    path = report.to_json(tmp_path / "report.json")
    written = json.loads(path.read_text())
    assert written["overflows"] == ["large", "back"]
    assert written["rows"][1]["largest_output"] == pytest.approx(1e5)
    with pytest.raises(FileExistsError, match="overwrite"):
        report.to_json(path)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"data": None}, ValueError, "Received: None"),
        ({"data": np.zeros((4, 3))}, ValueError, "shape"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"keep_float32": "larg"}, ValueError, "'large'"),
        ({"model": 3}, TypeError, "keras.Model"),
    ],
)
def test_bad_input(how, error, message):
    with pytest.raises(error, match=message):
        tfc.check_float16(**{"model": growing(), "data": np.ones((4, 2)), **how})
