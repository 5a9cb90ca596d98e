"""Data of every kind on a command line."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.data.sources.test_folders import write_images
from tfcompress.cli.flags.dataset_flags import numbers


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """A folder of images by class, and a model for them."""
    folder = tmp_path_factory.mktemp("pets")
    write_images(folder / "pets", count=20, shade=120)
    generator = np.random.default_rng(0)
    for name, shade in (("cat", 80), ("dog", 180)):  # easily told apart
        for path in (folder / "pets" / name).iterdir():
            image = generator.normal(shade, 30, (6, 6, 3)).clip(0, 255).astype("uint8")
            keras.utils.save_img(path, image, scale=False)
    inputs = keras.Input((4, 4, 3), name="image")
    x = L.Flatten()(L.Conv2D(8, 3, activation="relu", name="conv")(inputs))
    keras.utils.set_random_seed(0)
    keras.Model(inputs, L.Dense(2, name="scores")(x), name="pets").save(folder / "model.keras")
    return folder


def test_images_from_training_to_a_file(pets, script):
    data = [f"--data={pets / 'pets'}", "--rescale=1/127.5,-1"]
    model, quantized, file = (pets / name for name in ("trained.keras", "int8.keras", "int8.tflite"))
    found = pets / "result.json"
    script(
        "train",
        f"--model={pets / 'model.keras'}",
        *data,
        f"--output={model}",
        "--epochs=12",
        "--batch_size=8",
        "--learning_rate=0.02",
    )
    done = script("quantize", f"--model={model}", *data, f"--output={quantized}", f"--outputs={file}")
    assert "differs from Keras by at most" in done.stdout
    done = script("evaluate", f"--models={file},{model}", *data, f"--json={found}")
    assert "Using" not in done.stdout
    result = json.loads(found.read_text())
    for candidate in result["candidates"]:
        assert candidate["metrics"]["accuracy"] > 0.8
        assert [entry["name"] for entry in candidate["metrics"]["classes"]] == ["cat", "dog"]
    assert tfc.Artifact.open(file).inputs["image"].shape == (1, 4, 4, 3)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--data=pets", "--label=x"], 2, "no --label with a folder of images"),
        (["--rescale=1/255"], 2, "no --rescale without --data"),
        (["--data=pets", "--rescale=1/0"], 2, "Expected --rescale"),
        (["--data=pets", "--image_size=0"], 2, "Expected --image_size"),
        (["--data=pets", "--image_size=9"], 1, "Leave it out"),
        (["--data=nowhere"], 1, "nowhere, which isn't there"),
        (["--data=t.csv"], 2, "Expected --label"),
        (["--data=t.csv", "--label=c"], 1, "a column of t.csv: a, b. Received: 'c'"),
        (["--data=three"], 1, "2 classes, as the model has. Received: 3, named ['cat', 'dog', 'fox']"),
    ],
)
def test_data_that_does_not_fit_is_refused_before_any_work(flags, code, message, pets, tmp_path, script):
    (pets / "t.csv").write_text("a,b\n1,0\n2,1\n")
    if not (pets / "three").exists():
        write_images(pets / "three", ("cat", "dog", "fox"), 3)
    output = tmp_path / "new.keras"
    done = script("train", f"--model={pets / 'model.keras'}", *flags, f"--output={output}", code=code, cwd=pets)
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "a", "1/0", "1,", "nan", "inf"])
def test_what_are_no_numbers(text):
    with pytest.raises(ValueError, match="Expected"):
        numbers(text)
