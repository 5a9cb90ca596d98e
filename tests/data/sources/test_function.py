"""Data that a function of the user's returns."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.data.sources.test_folders import seen
from tfcompress.data.sources.source import Request
from tfcompress.data.sources.table import open_dataset

MODULE = """
import keras, numpy as np, tensorflow as tf
X = np.arange(20, dtype="float32").reshape(10, 2)
Y = np.arange(10) % 3
class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return X[3 * index : 3 * index + 3], Y[3 * index : 3 * index + 3]
def arrays(): return X, Y
def four(): return (X[:8], Y[:8]), (X[8:], Y[8:])
def dataset(): return tf.data.Dataset.from_tensor_slices((X, np.eye(3)[Y])).batch(4)
def several(): return dataset(), Batches()
def generator(): return (Batches()[i] for i in range(4))
def names(): return tf.data.Dataset.from_tensor_slices(({"a": X, "b": X}, Y / 2)).batch(4)
def nothing(): return iter([])
def inputs(): return tf.data.Dataset.from_tensor_slices(X).batch(4)
def argument(x): return X, Y
number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_data.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield "my_data"
    sys.modules.pop("my_data", None)


def inputs(split):
    found = split.first(10)
    return found["b"] if isinstance(found, dict) else found


@pytest.mark.parametrize("name", ["arrays", "dataset", "generator", "names"])
def test_one_set_is_divided(name, module):
    data = open_dataset(f"{module}:{name}", Request(seed=1))
    assert (data.name, data.train.samples, data.test.samples) == (name, 8, 2)
    assert data.classes == (None if name == "names" else 3)
    parts = [inputs(split) for split in (data.train, data.test)]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts).ravel()), np.arange(20))
    np.testing.assert_array_equal(inputs(open_dataset(f"{module}:{name}", Request(seed=1)).test), parts[1])


def test_two_sets_are_taken_as_they_are(module):
    data = open_dataset(f"{module}:four", Request())
    assert (data.train.samples, data.test.samples, data.classes) == (8, 2, 3)
    data = open_dataset(f"{module}:several", Request())
    assert (data.train.samples, data.test.samples, data.classes) == (10, 10, 3)
    np.testing.assert_array_equal(*(seen(split)[1] for split in (data.train, data.test)))  # one-hot, and numbers


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_data:none", "a function 'none' in my_data. Received: none"),
        ("my_data:number", "a function 'number' in my_data. Received: 3"),
        ("no_such_module:data", "whose module can't be imported from"),
        ("my_data:nothing", "at least one batch"),
        ("my_data:inputs", r"Expected batches \(x, y\)"),
        ("my_data:argument", "without arguments"),
    ],
)
def test_what_returns_no_data_is_refused(name, message, module):
    with pytest.raises(ValueError, match=message):
        open_dataset(name, Request())
