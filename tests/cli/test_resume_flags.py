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
        f"--data={tmp_path / 'data.npz'}", f"--output={tmp_path / 'out.keras'}", "--qat_epochs=100",
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
    assert int(tfc.load(tmp_path / "out.keras").optimizer.iterations) == 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz", "model.keras", "out.keras", "temporary"]


def test_other_contents_of_a_config_are_another_job(tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(".*: 0.5\n")
    values = job_called("prune").values()
    values(["prune", "--model=m.keras", f"--output={tmp_path / 'o.keras'}", f"--config={config}"])
    resume_of(values, values.output).begin()
    assert resume_of(values, values.output).begun
    assert capsys.readouterr().out == "Resuming an earlier run of this command.\n"
    config.write_text(".*: 0.6\n")
    assert not resume_of(values, values.output).begun
