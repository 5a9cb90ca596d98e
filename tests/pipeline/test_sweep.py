"""Sweeps: several sparsities of one model, on training and on test data."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.pipeline import Data, digits
from tfcompress.pipeline.sweep import Sweep, SweepRow, sweep


def flat_digits(samples=300):
    data = digits()
    parts = (data.x_train[:samples], data.y_train[:samples], data.x_test[:100], data.y_test[:100])
    return Data("digits", *parts)


def make_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), L.Flatten(), L.Dense(24, activation="relu"), L.Dense(10)], name="small"
    )
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    data = flat_digits()
    model.fit(data.x_train, data.y_train, epochs=8, verbose=0)
    return model


def test_each_sparsity_is_trained_from_the_model_as_given():
    model, data = make_model(), flat_digits()
    before = model.get_weights()
    result = sweep(model, [0.95, 0.5], data, epochs=1)
    assert [row.target for row in result.rows] == [None, 0.0, 0.5, 0.95]
    np.testing.assert_allclose([row.sparsity for row in result.rows], [0, 0, 0.5, 0.95], atol=2e-3)
    assert (result.model, result.data, result.metric, result.epochs) == ("small", "digits", "accuracy", 1)
    given = result.rows[0]
    assert given.train == tfc.evaluate(model, data.x_train, data.y_train).accuracy
    assert given.test == tfc.evaluate(model, data.x_test, data.y_test).accuracy
    assert result.rows[3].train < result.rows[1].train
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # Alone a sparsity ends as in company: each begins at the same weights and seed.
    alone = sweep(model, [0.95], data, epochs=1)
    assert alone.rows == (*result.rows[:2], result.rows[3])


def test_table_json_and_plot(tmp_path):
    rows = (SweepRow(None, 0.0, 0.99, 0.95), SweepRow(0.0, 0.0, 1.0, 0.96), SweepRow(0.9, 0.8996, 0.97, 0.965))
    result = Sweep("m", "d", "accuracy", 3, rows)
    table = result.table()
    assert str(result) == table
    for text in ("as given", "90 %", "89.96 %", "97.00 %", "96.50 %", "+0.50", "3 epochs"):
        assert text in table
    document = json.loads(result.to_json(tmp_path / "sweep.json").read_text())
    assert document["rows"][2] == {"target": 0.9, "sparsity": 0.8996, "train": 0.97, "test": 0.965}
    assert result.plot(tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    (axis,) = result.plot().axes
    lines = {line.get_label(): line for line in axis.get_lines()}
    np.testing.assert_allclose(lines["test, pruned and fine-tuned"].get_ydata(), [96, 96.5])
    np.testing.assert_allclose(lines["test, pruned and fine-tuned"].get_xdata(), [0, 89.96])
    with pytest.raises(FileExistsError, match="overwrite"):
        result.plot(tmp_path / "sweep.png")
    assert "+0.1" in Sweep("m", "d", "mse", 3, (SweepRow(None, 0.0, 0.3, 0.2),)).table()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sparsities": [0.5, 1.0]}, r"\[0, 1\)"),
        ({"sparsities": [0.0]}, "a sparsity above 0"),
        ({"sparsities": []}, "several values"),
        ({"sparsities": 0.5}, r"Expected `sparsities` to be several values, such as \[0.5, 0.9\]. Received: 0.5"),
        ({"sparsities": [0.5], "epochs": 0}, "epochs=0"),
        ({"sparsities": [0.5], "scope": "model"}, "scope"),
        ({"sparsities": [0.5], "test_data": (np.ones((3, 8, 8, 1)), np.zeros(3))}, "test_data of type tuple"),
        ({"sparsities": [0.5], "data": (np.ones((3, 8, 8, 1)), np.zeros(3))}, "test_data of type NoneType"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_trained(arguments, message):
    model = keras.Sequential([keras.Input((8, 8, 1)), L.Flatten(), L.Dense(10)])
    with pytest.raises(ValueError, match=message):
        sweep(model, **{"data": flat_digits(20), **arguments})
