"""TFRecords, and what a .json file says of them."""

from __future__ import annotations

import gzip
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from tests.data.sources.test_folders import image_model, seen, wanted
from tfcompress.data.sources.source import Request
from tfcompress.data.sources.table import open_dataset

VALUES = {"x": {"dtype": "float32", "shape": [2]}, "label": {"dtype": "int64", "names": ["no", "yes"]}}
PHOTOS = {"photo": {"encoding": "image", "shape": [3, 3, 1]}, "label": {"dtype": "int64"}}
RAW = {"x": {"encoding": "raw", "dtype": "uint8", "shape": [2]}, "label": {"dtype": "float32", "shape": []}}


def feature(value):
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if np.asarray(value).dtype.kind == "f":
        return tf.train.Feature(float_list=tf.train.FloatList(value=np.ravel(value)))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=np.ravel(value)))


def write(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            features = tf.train.Features(feature={name: feature(value) for name, value in record.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())


def spec(folder, features):
    (folder / "features.json").write_text(json.dumps(features))
    return str(folder / "features.json")


def values(count, start=0):
    return [{"x": np.float32([i, -i]), "label": i % 2} for i in range(start, start + count)]


@pytest.mark.parametrize("names", [("train.tfrecord", "test.tfrecord"), ("train/a.tfrecord", "test/a.tfrecord"),
                                   ("d-train.tfrecord-00000-of-00001", "d-test.tfrecord-00000-of-00001")])  # fmt: skip
def test_files_that_are_divided(names, tmp_path):
    for name, records in zip(names, (values(6), values(3, 6)), strict=True):
        write(tmp_path / "d" / name, records)
    data = open_dataset(str(tmp_path / "d"), Request(features=spec(tmp_path, VALUES)))
    assert (data.name, data.classes, data.class_names) == ("d", 2, ("no", "yes"))
    assert (data.train.samples, data.test.samples) == (6, 3)
    x, y = seen(data.test)
    np.testing.assert_array_equal(x, [[6, -6], [7, -7], [8, -8]])
    np.testing.assert_array_equal(y, [0, 1, 0])


def test_images_and_raw_bytes(tmp_path):
    images = [tf.io.encode_png(np.full((5, 4, 1), 10 * (i // 2), "uint8")).numpy() for i in range(10)]
    write(tmp_path / "photos.tfrecord", [{"photo": image, "label": i // 2} for i, image in enumerate(images)])
    features = spec(tmp_path, PHOTOS)
    data = open_dataset(str(tmp_path / "photos.tfrecord"), Request(features=features, rescale=(0.5, 1.0)))
    assert (data.name, data.classes, data.train.samples, data.test.samples) == ("photos", 5, 5, 5)
    x, y = seen(data.train)
    assert x.shape == (5, 3, 3, 1)
    np.testing.assert_allclose(x[:, 1, 1, 0], 5.0 * y + 1)
    fitted = open_dataset(str(tmp_path / "photos.tfrecord"), wanted(image_model((6, 7, 3), 10), features=features))
    assert fitted.test.first(2).shape == (2, 6, 7, 3)
    write(tmp_path / "raw.tfrecord", [{"x": bytes([i, 2 * i]), "label": np.float32(i / 2)} for i in range(5)])
    data = open_dataset(str(tmp_path / "raw.tfrecord"), Request(features=spec(tmp_path, RAW)))
    x, y = seen(data.train)
    assert (data.classes, x.dtype) == (None, np.uint8)
    np.testing.assert_allclose(x, np.column_stack([2 * y, 4 * y]))


def test_several_features_are_a_models_inputs_by_name(tmp_path):
    write(
        tmp_path / "two.tfrecord", [{"a": np.float32([i]), "b": np.float32([i, i]), "label": i % 3} for i in range(9)]
    )
    features = {"a": {"shape": [1]}, "b": {"shape": [2]}, "label": {"dtype": "int64"}}
    inputs = {name: keras.Input((size,), name=name) for name, size in (("a", 1), ("b", 2))}
    model = keras.Model(inputs, L.Dense(3)(L.Concatenate()(list(inputs.values()))))
    data = open_dataset(str(tmp_path / "two.tfrecord"), wanted(model, features=spec(tmp_path, features)))
    assert {name: part.shape for name, part in data.train.first(4).items()} == {"a": (4, 1), "b": (4, 2)}
    with pytest.raises(ValueError, match="an input for each of the features a, b"):
        open_dataset(str(tmp_path / "two.tfrecord"), Request(features=spec(tmp_path, features)))


@pytest.mark.parametrize(
    ("features", "label", "message"),
    [
        (None, None, "a .json file that says what the TFRecords hold"),
        ([], None, "an object for each feature"),
        ({"x": {"dtype": "complex"}, "label": {}}, None, "Expected of a feature dtype"),
        ({"x": {"kind": 1}, "label": {}}, None, "Expected of a feature dtype"),
        ({"x": {"encoding": "image", "shape": [2]}, "label": {}}, None, "height, width, channels"),
        ({"x": {}, "y": {}}, None, "one of several features: x, y. Received: 'label'"),
        ({"x": {"shape": [3]}, "label": {"dtype": "int64"}}, None, r'first record holds {.*"x": {.*"shape": \[2\]}}'),
        (
            {"x": VALUES["x"], "other": {"dtype": "int64"}},
            "other",
            "a feature 'other'.*t.tfrecord: Feature: other",
        ),
        ({"x": VALUES["x"], "label": {"dtype": "int64", "names": ["a", "b"]}}, "label", "from 0 to 1 in 'label'.*: 3"),
    ],
)
def test_records_that_do_not_fit_are_refused(features, label, message, tmp_path):
    write(tmp_path / "t.tfrecord", [{"x": np.float32([1, 2]), "label": 3}] * 3)
    path = None if features is None else spec(tmp_path, features)
    with pytest.raises(ValueError, match=message):
        open_dataset(str(tmp_path / "t.tfrecord"), Request(features=path, label=label))


def test_files_may_be_compressed_and_labels_text(tmp_path):
    records = [{"x": np.float32([i, -i]), "label": (b"off", b"on")[i % 2]} for i in range(10)]
    write(tmp_path / "d" / "0.tfrec", [])
    (tmp_path / "d" / "._a.tfrec").write_bytes(b"no records")
    write(tmp_path / "d" / "a.tfrec", records[:6])
    with gzip.open(tmp_path / "d" / "b.tfrecord.gz", "wb") as file:
        write(tmp_path / "b", records[6:])
        file.write((tmp_path / "b").read_bytes())
    features = {"x": VALUES["x"], "label": {"dtype": "string"}}
    data = open_dataset(str(tmp_path / "d"), Request(features=spec(tmp_path, features)))
    assert (data.classes, data.class_names, data.train.samples, data.test.samples) == (2, ("off", "on"), 8, 2)
    x, y = seen(data.train)
    np.testing.assert_array_equal(x[:, 0] % 2, y)
    features["label"]["names"] = ["on", "away"]
    with pytest.raises(ValueError, match=r"among the names \['on', 'away'\]. Received: \['off'\]"):
        open_dataset(str(tmp_path / "d"), Request(features=spec(tmp_path, features)))


def test_a_broken_file_is_named(tmp_path):
    with gzip.open(tmp_path / "z.tfrecord", "wb") as file:
        file.write(bytes(1000))
    (tmp_path / "z.tfrecord").write_bytes((tmp_path / "z.tfrecord").read_bytes()[:-9])
    with pytest.raises(ValueError, match="z.tfrecord: Compressed file ended"):
        open_dataset(str(tmp_path / "z.tfrecord"), Request(features=spec(tmp_path, VALUES)))
    write(tmp_path / "d" / "a.tfrecord", values(3))
    (tmp_path / "d" / "b.tfrecord").write_bytes((tmp_path / "d" / "a.tfrecord").read_bytes()[:-3])
    with pytest.raises(ValueError, match="b.tfrecord: "):
        open_dataset(str(tmp_path / "d"), Request(features=spec(tmp_path, VALUES)))
    (tmp_path / "d" / "b.tfrecord").rename(tmp_path / "d" / "train.tfrecord")
    with pytest.raises(ValueError, match="divided into train and test by their names, or none"):
        open_dataset(str(tmp_path / "d"), Request(features=spec(tmp_path, VALUES)))
