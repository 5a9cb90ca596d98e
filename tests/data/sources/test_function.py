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
def text(): return X, np.array(["a", "b", "c"])[Y][:, None]
def singles(): return tf.data.Dataset.from_tensor_slices((X, Y[:, None]))
def endless(): return dataset().repeat()
def forever():
    while True: yield X, Y
class NoEnd(keras.utils.PyDataset):
    def __getitem__(self, index): return X, Y
def no_end(): return NoEnd()
def weights(): return X, Y, np.ones(10)
def weighted(): return tf.data.Dataset.from_tensor_slices((X, Y, Y)).batch(4)
def uneven(): return X, Y[:-1]
def lonely(): return X, np.arange(10) // 3
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


@pytest.mark.parametrize("name", ["arrays", "dataset", "generator", "names", "text", "singles"])
def test_one_set_is_divided(name, module):
    data = open_dataset(f"{module}:{name}", Request(seed=1))
    classes = None if name == "names" else 3
    assert (data.name, data.train.samples, data.test.samples) == (name, *((7, 3) if classes else (8, 2)))
    assert (data.classes, data.class_names) == (classes, ("a", "b", "c") if name == "text" else None)
    assert data.drawn == f"drawn by seed 1, 20 % of {'each class' if classes else 'all'} for tests"
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
        ("my_data:endless", "a tf.data.Dataset without an end. Leave .repeat"),
        ("my_data:forever", "more than 50 batches"),
        ("my_data:no_end", "a PyDataset without __len__"),
        ("my_data:weights", "weights of samples too"),
        ("my_data:weighted", "without weights"),
        ("my_data:uneven", "as many targets as inputs. Received: 10 and 9"),
        ("my_data:lonely", "2 samples of each class.* Received: 1 of 3; 10 samples of 4 classes"),
    ],
)
def test_what_returns_no_data_is_refused(name, message, module, monkeypatch):
    monkeypatch.setattr("tfcompress.data.sources.function.MOST_BATCHES", 50)
    with pytest.raises(ValueError, match=message):
        open_dataset(name, Request())
