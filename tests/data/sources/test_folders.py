"""Folders of images and of WAV files by class."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from PIL import Image

from tfcompress.data.sources.model_input import inputs_of
from tfcompress.data.sources.source import Request
from tfcompress.data.sources.table import open_dataset, source_of


def write_images(folder, classes=("cat", "dog"), count=10, size=(6, 5), shade=100):
    """Images of one grey per class: 100 in the first, 101 in the second."""
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = np.full((*size, 3), shade + place, "uint8")
            keras.utils.save_img(folder / name / f"{number:02}.png", image, scale=False)
    return str(folder)


def write_waves(folder, classes=("off", "on"), count=5, samples=400, rate=8000, channels=1):
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            wave = np.full((samples - number, channels), 0.25 * (place + 1), "float32")
            tf.io.write_file(str(folder / name / f"{number}.wav"), tf.audio.encode_wav(wave, rate))
    return str(folder)


def image_model(shape=(4, 4, 1), classes=2):
    return keras.Sequential([keras.Input(shape), L.Flatten(), L.Dense(classes)])


def wanted(model, **how):
    return Request(inputs_of(model), **how)


def seen(split):
    """All inputs and targets of a split, in order."""
    x, y = zip(*split.in_order()(), strict=True)
    return np.concatenate(x), np.concatenate(y)


def test_images_are_made_as_the_model_takes_them(tmp_path):
    place = write_images(tmp_path / "pets")
    data = open_dataset(place, wanted(image_model(), rescale=(1 / 255, 0.0)))
    assert (data.name, data.classes, data.class_names) == ("pets", 2, ("cat", "dog"))
    assert (data.train.samples, data.test.samples, data.validation) == (16, 4, None)
    (x, y), (x_test, y_test) = seen(data.train), seen(data.test)
    assert x.shape == (16, 4, 4, 1)
    assert x_test.shape == (4, 4, 4, 1)
    assert sorted([*y, *y_test]) == [0] * 10 + [1] * 10
    np.testing.assert_allclose(x[:, 0, 0, 0], (100 + y) / 255, rtol=1e-6)
    flat = open_dataset(place, wanted(keras.Sequential([keras.Input((4, 4), dtype="uint8"), L.Flatten()])))
    assert (flat.train.x.shape, flat.train.x.dtype) == ((None, 4, 4), "uint8")
    assert set(np.unique(flat.train.first(20))) == {100, 101}
    unknown = open_dataset(place, Request(image_size=(8, 9)))
    assert unknown.train.x.shape == (None, 8, 9, 3)


@pytest.mark.parametrize("divided", [True, False])
def test_every_epoch_has_its_own_order_which_follows_from_the_seed(divided, tmp_path):
    root = tmp_path / "many"
    for place in range(20):  # each image a shade of its own
        for part in ("train", "test") if divided else ("",):
            folder = root / part / ("even" if place % 2 == 0 else "odd")
            folder.mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(folder / f"{place}.png", np.full((2, 2, 1), place, "uint8"), scale=False)
    data = open_dataset(str(root), wanted(image_model((2, 2, 1)), seed=3))
    again = open_dataset(str(root), wanted(image_model((2, 2, 1)), seed=3))

    def epochs(split, count, **how):
        keras.utils.set_random_seed(1)
        batches, steps = iter(split.shuffled(4, **how)), -(-split.samples // 4)
        return [[next(batches)[0][:, 0, 0, 0].numpy().tolist() for _ in range(steps)] for _ in range(count)]

    first = epochs(data.train, 3)
    assert first == epochs(again.train, 3)
    assert epochs(again.train, 1, begun=2) == first[2:]
    assert first[0] != first[1] != first[2]
    for epoch in first:
        assert sorted(itertools.chain(*epoch)) == sorted(itertools.chain(*first[0]))
    assert len(set(itertools.chain(*first[0]))) == (20 if divided else 16)
    parts = [epochs(data.train, 1, part=part, parts=2, whole=True)[0] for part in range(2)]
    whole = epochs(data.train, 1, whole=True)[0]
    assert [one + other for one, other in zip(*parts, strict=True)] == whole


def test_what_is_divided_stays_so(tmp_path):
    for part, count in (("train", 3), ("test", 2), ("val", 1)):
        write_images(tmp_path / part, count=count)
    data = open_dataset(str(tmp_path), Request())
    assert [split.samples for split in (data.train, data.test, data.validation)] == [6, 4, 2]
    assert seen(data.test)[1].tolist() == [0, 0, 1, 1]


def test_folders_that_are_no_classes_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="Received: .*empty, which is an empty folder"):
        source_of(str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match="which isn't there"):
        source_of(str(tmp_path / "none"))
    one = write_images(tmp_path / "one", classes=("cat",))
    with pytest.raises(ValueError, match="files such as 00.png in none"):
        source_of(str(tmp_path / "one" / "cat"))
    with pytest.raises(ValueError, match="at least two. Received: cat"):
        open_dataset(one, Request())
    (tmp_path / "one" / "dog").mkdir()
    with pytest.raises(ValueError, match="dog, which has none"):
        open_dataset(one, Request())
    write_images(tmp_path / "both" / "train")
    write_images(tmp_path / "both" / "test", classes=("cat", "fox"))
    with pytest.raises(ValueError, match="same classes.*cat, dog; and cat, fox"):
        open_dataset(str(tmp_path / "both"), Request())
    write_images(tmp_path / "few", count=2)
    with pytest.raises(ValueError, match="at least 5 images.*Received: 4"):
        open_dataset(str(tmp_path / "few"), Request())
    with pytest.raises(ValueError, match="no `label` with a folder of images"):
        open_dataset(one, Request(label="y"))


def test_what_belongs_to_no_class_is_left_out(tmp_path):
    place = write_images(tmp_path / "pets", count=5)
    for name in ("._0.png", ".ipynb_checkpoints/0.png", "notes.txt", "photo.tif"):
        (tmp_path / "pets" / "cat" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "pets" / "cat" / name).write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"Left out: .*notes.txt and 1 more files, which don't end as images"):
        data = open_dataset(place, Request())
    assert (data.train.samples, data.test.samples) == (8, 2)
    seen(data.train)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_all_kinds_are_made_alike(channels, tmp_path):
    place = write_images(tmp_path / "pets", count=5)
    grey = np.full((6, 5), 100)
    for name, image in {
        "l.png": Image.fromarray(grey.astype("uint8")),
        "l.jpg": Image.fromarray(grey.astype("uint8")),
        "a.png": Image.fromarray(np.stack([grey, grey, grey, 0 * grey + 255], -1).astype("uint8")),
        "16.png": Image.fromarray((grey * 257).astype("uint16")),
        "p.png": Image.fromarray(grey.astype("uint8")).convert("P"),
        "l.bmp": Image.fromarray(grey.astype("uint8")),
        "l.gif": Image.fromarray(grey.astype("uint8")),
    }.items():
        image.save(tmp_path / "pets" / "cat" / name)
    x, y = seen(open_dataset(place, wanted(image_model((6, 5, channels)))).train)
    np.testing.assert_allclose(x[y == 0][..., : min(channels, 3)], 100)
    np.testing.assert_allclose(x[..., 3:], 255)


def test_models_that_take_no_such_images_are_refused(tmp_path):
    place = write_images(tmp_path / "pets", count=3)
    for shape, message in (((7,), "one input that is an image"), ((4, 4, 2), "1 or 3 or 4 channels")):
        with pytest.raises(ValueError, match=message):
            open_dataset(place, wanted(image_model(shape)))
    free = keras.Sequential([keras.Input((None, None, 3)), L.GlobalAveragePooling2D(), L.Dense(2)])
    with pytest.raises(ValueError, match="Give image_size"):
        open_dataset(place, wanted(free))
    assert open_dataset(place, wanted(free, image_size=(9, 9))).train.x.shape == (None, 9, 9, 3)
    with pytest.raises(ValueError, match=r"that the model takes, \(4, 4\)"):
        open_dataset(place, wanted(image_model(), image_size=(9, 9)))


def test_a_broken_image_is_named_when_it_is_come_upon(tmp_path):
    place = write_images(tmp_path / "pets")
    (tmp_path / "pets" / "dog" / "03.png").write_bytes(b"no image")
    data = open_dataset(place, wanted(image_model()))
    with pytest.raises(ValueError, match=r"dog/03.png, which can't"):
        (seen(data.train), seen(data.test))


def test_waves_are_padded_to_one_length(tmp_path):
    place = write_waves(tmp_path / "words")
    data = open_dataset(place, Request())
    assert data.train.x.shape == (None, 400, 1)
    assert (data.train.samples, data.test.samples, data.class_names) == (8, 2, ("off", "on"))
    x, y = seen(data.train)
    np.testing.assert_allclose(x[:, 0, 0], 0.25 * (y + 1), atol=1e-4)
    model = keras.Sequential([keras.Input((100,)), L.Dense(2)])
    assert open_dataset(place, wanted(model)).train.first(3).shape == (3, 100)


def test_waves_that_do_not_fit_are_refused(tmp_path):
    place = write_waves(tmp_path / "words", count=3)
    with pytest.raises(ValueError, match="input is a wave"):
        open_dataset(place, wanted(image_model()))
    write_waves(tmp_path / "words", classes=("stop",), count=2, rate=16000)
    with pytest.raises(ValueError, match="8000 Hz and 1 in .*16000 Hz and 1 in .*stop/0.wav"):
        open_dataset(place, Request())
    (tmp_path / "words" / "stop" / "0.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"stop/0.wav, which can't"):
        open_dataset(place, Request())
