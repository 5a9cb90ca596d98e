"""A program that was interrupted goes on when the same command is given once more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.cli.test_scripts import ROOT
from tfcompress.cli.jobs import job_called
from tfcompress.cli.resume_flags import resume_of
from tfcompress.core.temporary_folders import PREFIX


@pytest.mark.long
def test_an_interrupted_program_leaves_no_drafts_and_goes_on(tmp_path, script):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 4)).astype("float32"), np.arange(40) % 2
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    keras.Sequential([keras.Input((4,), name="x"), L.Dense(2, name="y")]).save(tmp_path / "model.keras")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [
        sys.executable, str(ROOT / "scripts" / "quantize.py"), f"--model={tmp_path / 'model.keras'}",
        f"--data={tmp_path / 'data.npz'}", f"--output={tmp_path / 'out.keras'}", "--qat_epochs=40",
    ]  # fmt: skip
    how = {"env": {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}, "text": True}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
    while running.poll() is None and not list(tmp_path.glob(".tfcompress-resume-*/training.npz")):
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert (running.returncode, stderr) == (130, "error: interrupted\n")
    assert not list(temporary.iterdir())
    assert not list(tmp_path.rglob(f"{PREFIX}*"))
    assert not (tmp_path / "out.keras").exists()
    done = script("quantize", *command[2:])
    assert done.stdout.startswith("Resuming an earlier run of this command.")
    assert int(tfc.load(tmp_path / "out.keras").optimizer.iterations) == 80
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "model.keras", "out.keras", "temporary"]


def test_other_contents_of_a_config_are_another_job(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(".*: 0.5\n")
    job = job_called("prune")
    values = job.values()
    values(["prune", "--model=m.keras", f"--output={tmp_path / 'o.keras'}", f"--config={config}"])
    resume_of(values, job).begin()
    assert resume_of(values, job).begun
    assert capsys.readouterr().out == "Resuming an earlier run of this command.\n"
    config.write_text(".*: 0.6\n")
    assert not resume_of(values, job).begun


def test_a_recipe_of_the_library_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "int8").mkdir()
    (tmp_path / "out").mkdir()
    mine = tmp_path / "mine.yaml"
    mine.write_text("steps: []\n")
    for recipe, file, known in (("int8", "int8/log.txt", True), ("mine.yaml", "mine.yaml", False)):
        job = job_called("compress")
        values = job.values()
        values(["compress", f"--recipe={recipe}", "--output_dir=out"])
        resume_of(values, job).begin()
        (tmp_path / file).write_text("more")
        assert resume_of(values, job).begun is known


class Killed(BaseException):
    """Stands for a signal that no program can catch."""


def killed(*_, **__):
    raise Killed


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with a model and data."""
    folder = tmp_path_factory.mktemp("workshop")
    x, y = np.random.default_rng(0).normal(size=(40, 4)).astype("float32"), np.arange(40) % 2
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    keras.Sequential([keras.Input((4,), name="x"), L.Dense(2, name="y")], name="small").save(folder / "model.keras")
    return folder


@pytest.mark.parametrize(
    ("name", "flags", "last", "made"),
    [
        ("quantize", ["--output=o.keras"], "tfcompress.cli.jobs.quantize.files_made", ["o.keras"]),
        ("convert", ["--outputs=o.onnx,p.onnx"], "tfcompress.cli.jobs.convert.described", ["o.onnx", "p.onnx"]),
        ("evaluate", ["--html=o.html"], "tfcompress.cli.result.write", ["o.html"]),
    ],
)
def test_a_job_that_was_killed_late_goes_on(name, flags, last, made, workshop, script, monkeypatch, tmp_path):
    model = "models" if name == "evaluate" else "model"
    flags = [f"--{model}={workshop / 'model.keras'}", f"--data={workshop / 'data.npz'}", *flags, "--json=o.json"]
    command = [name, *flags]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(last, killed)
        script(*command, cwd=tmp_path)
    assert set(made) < set(os.listdir(tmp_path))
    assert f"Would write {made[0]} (replacing what is there)." in script(*command, "--dry_run", cwd=tmp_path).stdout
    assert script(*command, cwd=tmp_path).stdout.startswith("Resuming an earlier run of this command.")
    assert set(os.listdir(tmp_path)) == {*made, "o.json"}
    assert "which is there" in script(*command, code=1, cwd=tmp_path).stderr


def test_a_job_that_failed_leaves_nothing(workshop, script, monkeypatch, tmp_path):
    def failed(*_, **__):
        raise ValueError("no")

    monkeypatch.setattr(tfc, "export", failed)
    flags = [f"--model={workshop / 'model.keras'}", "--outputs=o.onnx"]
    assert script("convert", *flags, code=1, cwd=tmp_path).stderr == "error: no\n"
    assert not os.listdir(tmp_path)


def test_a_recipe_that_was_killed_at_its_beginning_goes_on(workshop, script, monkeypatch, tmp_path):
    (tmp_path / "mine.yaml").write_text("steps: [{step: prune, config: 0.5}, {step: export, files: [a.onnx]}]")
    flags = [f"--model={workshop / 'model.keras'}", f"--data={workshop / 'data.npz'}", "--recipe=mine.yaml"]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("tfcompress.recipes.record.Record.write", killed)
        script("compress", *flags, cwd=tmp_path)
    (written,) = tmp_path.glob("*/model/recipe.yaml")
    assert (
        f"Would write {written.relative_to(tmp_path)} (repl"
        in script("compress", *flags, "--dry_run", cwd=tmp_path).stdout
    )
