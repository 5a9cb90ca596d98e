"""Data sets that TensorFlow Datasets has prepared."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.data.sources.test_folders import image_model, seen, wanted
from tfcompress.data.sources.source import Request
from tfcompress.data.sources.table import open_dataset


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("prepared")
    features = {"image": tfds.features.Image(shape=(4, 5, 1)), "label": tfds.features.ClassLabel(names=["off", "on"])}

    def examples(count):
        numbers = np.arange(count)
        images = np.tile(10 * numbers[:, None, None, None], (1, 4, 5, 1)).astype("uint8")
        return tf.data.Dataset.from_tensor_slices({"image": images, "label": numbers % 2})

    info = {"name": "lights", "version": "1.2.0", "data_dir": str(folder)}
    for name, splits in (("lights", {"train": 10}), ("parted", {"train": 6, "test": 4})):
        tfds.dataset_builders.store_as_tfds_dataset(
            **{**info, "name": name},
            features=tfds.features.FeaturesDict(features),
            split_datasets={split: examples(count) for split, count in splits.items()},
        )
    return str(folder)


def test_a_prepared_data_set_is_read(prepared):
    data = open_dataset("tfds:parted", Request(data_dir=prepared, rescale=(0.1, 0.0)))
    assert (data.name, data.classes, data.class_names) == ("parted", 2, ("off", "on"))
    assert (data.train.samples, data.test.samples) == (6, 4)
    x, y = seen(data.test)
    assert x.shape == (4, 4, 5, 1)
    np.testing.assert_allclose(x[:, 0, 0, 0] % 2, y, atol=1e-5)
    divided = open_dataset("tfds:lights:1.2.0", wanted(image_model((8, 8, 1)), data_dir=prepared))
    assert (divided.train.samples, divided.test.samples) == (8, 2)
    assert divided.test.first(2).shape == (2, 8, 8, 1)


def test_data_sets_that_are_not_there_are_refused(prepared):
    with pytest.raises(FileNotFoundError, match=r"lights, parted. Name the folder.*tensorflow_datasets.load\('mnist'"):
        open_dataset("tfds:mnist", Request(data_dir=prepared))
    with pytest.raises(ValueError, match="images of 3 channels"):
        open_dataset("tfds:lights", wanted(image_model((4, 5, 3)), data_dir=prepared))


def test_the_package_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'tfcompress\[data\]'"):
        open_dataset("tfds:mnist", Request())
