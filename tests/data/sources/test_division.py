"""How data that isn't divided is divided, whatever it comes from; and classes that aren't numbered from 0."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.data.sources import test_tfrecords
from tests.data.sources.test_folders import seen
from tfcompress.data.sources.division import divide
from tfcompress.data.sources.source import Request
from tfcompress.data.sources.table import open_dataset

KINDS = [0] * 30 + [1] * 8 + [2] * 2
"""Sorted, and the last is rare."""


def test_every_class_is_in_both_parts():
    labels = np.array(KINDS)
    train, test = divide(40, labels, seed=5)
    assert sorted([*train, *test]) == list(range(40))
    assert np.bincount(labels[test]).tolist() == [6, 2, 1]
    assert np.diff(test).min() < 0  # in no order
    np.testing.assert_array_equal(divide(40, labels, seed=5)[1], test)
    assert set(divide(40, labels, seed=6)[1]) != set(test)
    assert len(divide(40, None, seed=5)[1]) == 8


def table(folder, first):
    (folder / "t.csv").write_text("".join(["x,kind\n", *(f"{i}.5,{first + kind}\n" for i, kind in enumerate(KINDS))]))
    return str(folder / "t.csv"), {"label": "kind"}


def records(folder, first):
    found = [{"x": np.float32([i, 0]), "label": first + kind} for i, kind in enumerate(KINDS)]
    test_tfrecords.write(folder / "t.tfrecord", found)
    return str(folder / "t.tfrecord"), {"features": test_tfrecords.spec(folder, test_tfrecords.VALUES | NUMBERS)}


NUMBERS = {"label": {"dtype": "int64"}}


def function(folder, first):
    (folder / "division_data.py").write_text(
        "import numpy as np, tensorflow as tf\n"
        f"kinds = np.array({KINDS}) + {first}\n"
        "def data(): return tf.data.Dataset.from_tensor_slices((np.arange(40.0)[:, None], kinds)).batch(7)\n"
    )
    return "division_data:data", {}


@pytest.mark.parametrize("made", [table, records, function])
def test_streams_are_divided_by_class_and_classes_may_begin_at_1(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "division_data", raising=False)
    place, how = made(tmp_path, first=1)
    data = open_dataset(place, Request(**how))
    assert (data.classes, data.class_names) == (3, ("1", "2", "3"))
    assert data.division() == ("31 samples to train with, 9 to test on: drawn by seed 0, 20 % of each class for tests")
    (x, y), (x_test, y_test) = seen(data.train), seen(data.test)
    assert np.bincount(y_test).tolist() == [6, 2, 1]
    assert np.bincount(y).tolist() == [24, 6, 1]
    np.testing.assert_array_equal(np.sort(np.concatenate([x, x_test])[:, 0] // 1), np.arange(40))
    assert np.concatenate(list(data.train.shuffled(8).take(4).map(lambda x, y: y))).max() == 2
    model = {"outputs": 4}  # which has an output for 0
    assert open_dataset(place, Request(**how, **model)).classes == 4
