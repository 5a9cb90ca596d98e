"""A job that is stopped in its midst and started once more ends as if it had not been."""

from __future__ import annotations

import contextlib
import functools
import os

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.data.sources.model_input import inputs_of
from tfcompress.data.sources.source import Request
from tfcompress.data.sources.table import open_dataset
from tfcompress.pipeline import Data, checkpoints, fit
from tfcompress.pipeline.checkpoints import PREFIX, Resume, digest
from tfcompress.pipeline.distribution import ONE, Devices
from tfcompress.pipeline.sweep import sweep
from tfcompress.recipes import compress_job as job_module
from tfcompress.recipes import run, work


class Killed(BaseException):
    """Stands for a signal that no program can catch."""


class Stop(keras.callbacks.Callback):
    """Stops in the middle of an epoch, counted over all trainings."""

    def __init__(self, epoch):
        super().__init__()
        self.left = epoch

    def on_epoch_end(self, epoch, logs=None):
        self.left -= 1

    def on_train_batch_end(self, batch, logs=None):
        if self.left == 0 and batch == 1:
            raise Killed


def data():
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 75)
    x = (np.eye(3)[y].repeat(2, axis=1) + generator.normal(0, 0.3, (75, 6))).astype("float32")
    return Data("made", x[:50], y[:50], x[50:], y[50:])


def network():
    keras.utils.set_random_seed(3)
    layers = [keras.Input((6,)), L.Dense(8, activation="relu"), L.BatchNormalization(), L.Dropout(0.3), L.Dense(3)]
    return keras.Sequential(layers, name="network")


def weights(model):
    return [keras.ops.convert_to_numpy(variable.value) for variable in model.variables]


def assert_equal(one, other):
    for a, b in zip(weights(one), weights(other), strict=True):
        np.testing.assert_array_equal(a, b)


def streamed(folder):
    """The same samples in a .csv file."""
    given = data()
    y = np.concatenate([given.y_train, given.y_test])
    x = np.concatenate([given.x_train, given.x_test])
    lines = [",".join(map(str, (*row, f"class {label}"))) for row, label in zip(x, y, strict=True)]
    (folder / "made.csv").write_text("\n".join(["a,b,c,d,e,f,label", *lines]) + "\n")
    return open_dataset(str(folder / "made.csv"), Request(inputs_of(network()), label="label"))


@pytest.mark.parametrize(
    ("devices", "precision", "made", "often"),
    [
        # Of arrays, tests/recipes/test_runner.py stops trainings within an epoch, too.
        pytest.param(ONE, "float32", lambda folder: data(), True, marks=pytest.mark.rare),
        (Devices("alike"), "mixed_bfloat16", lambda folder: data(), False),
        (ONE, "float32", streamed, True),
        # What several devices are fed of a stream is tried in tests/data/sources/test_folders.py.
        pytest.param(Devices("alike"), "float32", streamed, True, marks=pytest.mark.rare),
    ],
    ids=["one", "several", "streamed", "streamed to several"],
)
def test_a_training_goes_on(devices, precision, made, often, tmp_path, monkeypatch):
    """With `often`: from within an epoch."""
    if often:
        monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
        monkeypatch.setattr(checkpoints, "SHARE", 1e9)
    given = made(tmp_path)

    def train(resume, *callbacks):
        schedule = tfc.PolynomialSparsity(0.0, 0.5, begin_step=2, end_step=8, frequency=2)
        model = tfc.prune(tfc.mixed_precision(network(), precision), schedule)
        how = {"epochs": 4, "batch_size": 16, "learning_rate": 0.01, "callbacks": callbacks, "devices": devices}
        keras.utils.set_random_seed(1)
        fit(model, given, keras.losses.SparseCategoricalCrossentropy(True), backup=resume.backup("training"), **how)
        return model

    job, target = {"epochs": 4}, tmp_path / "model.keras"
    undisturbed = train(Resume(tmp_path / "other.keras", job))
    with pytest.raises(Killed):
        train(Resume(target, job), Stop(2))
    resume = Resume(target, job)
    assert resume.begun
    assert (resume.backup("training").epochs, resume.backup("training").batches) == (2, int(often))
    assert_equal(train(resume), undisturbed)
    assert resume.backup("training").epochs == 4
    resume.done()
    assert not target.parent.joinpath(resume.folder.name).exists()


def test_a_backup_of_another_job_or_a_spoilt_one_is_not_used(tmp_path):
    target = tmp_path / ("n" * 248 + ".keras")
    resume = Resume(target, {"seed": 0})
    model = network()
    how = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}
    fit(model, data(), keras.losses.SparseCategoricalCrossentropy(True), backup=resume.backup("training"), **how)
    assert Resume(target, {"seed": 0}).backup("training").epochs == 2
    assert not Resume(target, {"seed": 1}).begun
    assert Resume(target, {"seed": 1}).backup("training").epochs == 0
    wider = keras.Sequential([keras.Input((6,)), L.Dense(3)])
    wider.compile("adam", "mse")
    assert Resume(target, {"seed": 0}).backup("training").restore(wider) == 0
    (file,) = (tmp_path / resume.folder.name).glob("*.npz")
    file.write_bytes(file.read_bytes()[:-100])
    assert Resume(target, {"seed": 0}).backup("training").epochs == 0


# It is a recipe, which tests/recipes/test_runner.py stops, and tests/cli/test_resume_flags.py the command.
@pytest.mark.rare
@pytest.mark.parametrize("epochs", [4])
def test_the_main_job_goes_on(epochs, tmp_path, monkeypatch):
    """Stopped when the first two trainings are done."""
    monkeypatch.setattr(job_module, "FILES", {"dense.tflite": ("dense", "float32")})
    monkeypatch.setattr(work, "compare", functools.partial(work.compare, latency=False, layers=False))

    reports = []

    def job(folder, resume, stop=None):
        @contextlib.contextmanager
        def stage(text, count=0):
            yield [stop] if stop and count else []

        keras.utils.set_random_seed(0)
        recipe = job_module.recipe_of(trained=False, epochs=2, finetune_epochs=2, qat_epochs=2, sparsity=0.5)
        how = {"resume": resume.begun, "overwrite": resume.begun, "begin": resume.begin, "stage": stage}
        reports.append(run(recipe, None, data(), folder=folder, **how).report)
        resume.done()
        return tfc.load(folder / "pruned.keras"), tfc.load(folder / "quantized.keras")

    undisturbed = job(tmp_path / "a", Resume(tmp_path / "a", {}))
    folder = tmp_path / "b"
    with pytest.raises(Killed):
        job(folder, Resume(folder, {}), Stop(epochs))
    assert sorted(name.startswith(PREFIX) for name in os.listdir(tmp_path)) == [False, False, True]
    for one, other in zip(job(folder, Resume(folder, {})), undisturbed, strict=True):
        assert_equal(one, other)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    for candidate in reports[-1].candidates:
        assert candidate.size.file_bytes == (folder / candidate.name).stat().st_size
    with pytest.raises(FileExistsError):
        job(folder, Resume(folder, {}))


def test_a_sweep_goes_on(tmp_path):
    how = {"epochs": 2, "batch_size": 16}
    undisturbed = sweep(network(), [0.8], data(), resume=Resume(tmp_path / "a", {}), **how)
    resume, stop = Resume(tmp_path / "b", {}), Stop(3)
    with pytest.raises(Killed):
        sweep(network(), [0.8], data(), stage=lambda *_: contextlib.nullcontext([stop]), resume=resume, **how)
    assert sweep(network(), [0.8], data(), resume=Resume(tmp_path / "b", {}), **how) == undisturbed


def test_files_are_told_apart_by_what_they_hold(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_text("1")
    before = digest(tmp_path / "a")
    (tmp_path / "a" / "one").write_text("2")
    assert len({before, digest(tmp_path / "a"), digest(tmp_path / "a" / "one"), digest(None)}) == 4
    assert digest(tmp_path / "none") == digest("") == ""
    known = digest(tmp_path / "a", contents=False)
    assert known == digest(tmp_path / "a", contents=False)
    (tmp_path / "a" / "one").write_text("three")
    assert known != digest(tmp_path / "a", contents=False)
