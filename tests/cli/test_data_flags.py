"""Data of every kind on a command line."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

import tfcompress as tfc
from tests.data.sources.test_folders import write_images
from tests.data.sources.test_tfrecords import spec, write
from tfcompress.cli.flags.dataset_flags import numbers
from tfcompress.pipeline import default_model, digits


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


@pytest.fixture(scope="module")
def lamps(tmp_path_factory):
    """The same sorted samples as TFRecords, as arrays, and from a function; a model for them."""
    folder = tmp_path_factory.mktemp("lamps")
    y = np.repeat([0, 1], 30)
    x = (4 * y[:, None] - 2 + np.random.default_rng(0).normal(size=(60, 4))).astype("float32")
    names = ["off", "on"]
    np.savez(folder / "lamps.npz", x=x, y=np.array(names)[y])
    (folder / "lamp_data.py").write_text(
        "import pathlib, numpy as np, tensorflow as tf\n"
        "def lamps():\n"
        "    found = np.load(pathlib.Path(__file__).with_name('lamps.npz'))\n"
        "    return tf.data.Dataset.from_tensor_slices((found['x'], found['y'])).batch(8)\n"
    )
    write(folder / "lamps.tfrecord", [{"x": row, "label": label} for row, label in zip(x, y, strict=True)])
    spec(folder, {"x": {"shape": [4]}, "label": {"dtype": "int64", "names": names}})
    inputs = keras.Input((4,), name="x")
    keras.utils.set_random_seed(0)
    hidden = L.Dense(8, activation="relu", name="hidden")(inputs)
    keras.Model(inputs, L.Dense(2, name="scores")(hidden), name="lamps").save(folder / "model.keras")
    return folder, x, y


def prepared(folder, x, y):
    tfds = pytest.importorskip("tensorflow_datasets")
    features = {
        "x": tfds.features.Tensor(shape=(4,), dtype=np.float32),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    features["label"].names = ["off", "on"]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="lamps",
        version="1.0.0",
        data_dir=str(folder),
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": tf.data.Dataset.from_tensor_slices({"x": x, "label": y})},
    )


@pytest.mark.parametrize(
    ("job", "flags"),
    [
        ("quantize", ["--data=lamps.tfrecord", "--features=features.json"]),
        ("prune", ["--data=tfds:lamps", "--data_dir=."]),
        ("train", ["--data=lamp_data:lamps"]),
    ],
)
def test_what_is_streamed_goes_through_jobs(job, flags, lamps, script):
    folder = lamps[0]
    if "--data_dir=." in flags:
        prepared(*lamps)
    more = {
        "quantize": ["--qat_epochs=2"],
        "prune": ["--finetune_epochs=4", "--sparsity=0.5"],
        "train": ["--epochs=4"],
    }[job]
    output = f"{job}.keras"
    how = [f"--output={output}", "--learning_rate=0.05", *more, *flags]
    division = "48 samples to train with, 12 to test on: drawn by seed 0, 20 % of each class for tests"
    assert f"lamps: {division}.\n" in script(job, "--model=model.keras", *how, cwd=folder).stdout
    page = ["--html=page.html"] if job == "train" else []
    script("evaluate", f"--models={output}", *flags, "--json=found.json", "--overwrite", *page, cwd=folder)
    found = json.loads((folder / "found.json").read_text())
    assert found["about"]["division"] == division
    (candidate,) = found["candidates"]
    assert candidate["metrics"]["accuracy"] > 0.9
    assert [(entry["name"], entry["support"]) for entry in candidate["metrics"]["classes"]] == [("off", 6), ("on", 6)]
    assert not page or "20 % of each class for tests" in (folder / "page.html").read_text()


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--data=pets", "--label=x"], 2, "no --label with a folder of images"),
        (["--rescale=1/255"], 2, "no --rescale without --data"),
        (["--data=pets", "--rescale=1/0"], 2, "Expected --rescale"),
        (["--data=pets", "--image_size=0"], 2, "Expected --image_size"),
        (["--data=pets", "--image_size=9"], 1, "Leave it out"),
        (["--data=nowhere"], 1, "nowhere, which isn't there"),
        (["--data=t.csv"], 2, "Expected --label with a .csv file"),
        (["--data=t.csv"], 2, "t.csv has a, b"),
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


@pytest.mark.parametrize("job", ["evaluate", "train", "prune", "sensitivity", "compress"])
def test_digits_are_for_models_that_were_made_of_them(job, tmp_path, script):
    """A model with inputs and outputs of their sizes may be one of something else."""
    layers = [keras.Input((8, 8, 1)), L.Flatten(), L.Dense(10)]
    keras.Sequential(layers, name="other").save(tmp_path / "other.keras")
    keras.Sequential(layers, name=default_model(digits()).name).save(tmp_path / "made.keras")
    flag = "models" if job == "evaluate" else "model"
    output = {"evaluate": [], "compress": [], "sensitivity": ["--output=o.json"]}.get(job, ["--output=o.keras"])
    more = ["--dry_run", *output]
    done = script(job, f"--{flag}=made.keras", *more, cwd=tmp_path)
    assert "The digits of scikit-learn, as there is no --data: 1,347 samples to train with" in done.stdout
    done = script(job, f"--{flag}=other.keras", *more, code=2, cwd=tmp_path)
    assert "nothing says that it was trained on scikit-learn's digits" in done.stderr


@pytest.mark.parametrize("text", ["", "a", "1/0", "1,", "nan", "inf"])
def test_what_are_no_numbers(text):
    with pytest.raises(ValueError, match="Expected"):
        numbers(text)
