"""What is so in a process that has done nothing before, and after one that was killed."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tests.cli import small_job
from tests.export.test_same_bytes import digests
from tests.precision import networks
from tests.programs import interrupted
from tfcompress.core import atomic_files
from tfcompress.core.temporary_folders import PREFIX

ROOT = pathlib.Path(__file__).parents[1]
HEAVY = (
    "tensorflow_model_optimization", "tf_keras", "matplotlib", "onnxruntime", "onnx", "tf2onnx", "sklearn",
    "ai_edge_litert", "tensorflow.lite",
)  # fmt: skip


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:mixed_float16 is slow on a CPU")
def test_imports_exports_a_job_on_two_devices_and_what_was_killed(tmp_path):
    """One process for all of that: what it does is in `tests/programs/new_process.py`."""
    folder, undisturbed, resumed = tmp_path / "new", tmp_path / "undisturbed.npz", tmp_path / "resumed.npz"
    folder.mkdir()
    given, output = tmp_path / "model.keras", tmp_path / "output.keras"
    job = [
        "train", f"--model={given}", f"--data={tmp_path / 'data.npz'}", f"--output={output}",
        "--distribution=mirrored", "--devices=2", "--epochs=2", "--precision=mixed_bfloat16",
    ]  # fmt: skip
    if ON_TENSORFLOW:
        small_job.make(tmp_path)
        tfc.prune(networks.mlp(), 0.5).save(folder / "pruned.keras")
        tfc.mixed_precision(networks.mlp(), "mixed_float16").save(folder / "mixed.keras")
    done = subprocess.run(
        [sys.executable, "-m", "tests.programs.new_process", str(folder), *job],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "77", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    assert not (folder / "trained.npz").exists()
    found = json.loads((folder / "found.json").read_text())

    # Importing is light.
    assert "tfcompress" in found["modules"]
    assert not [name for name in found["modules"] if name.startswith(HEAVY)]

    if ON_TENSORFLOW:
        # Models are loaded with nothing but the import.
        assert found["optimizers"] == {"pruned": "Adam", "mixed": "LossScaleOptimizer"}
        # Exporting is silent.
        assert done.stderr.split("#\n")[1] == ""
        # The same model, built anew, makes the same file.
        assert found["digests"] == digests(tmp_path)
        # The command trains on two devices as on one.
        assert found["code"] == 0
        assert "Trained on 2 devices." in done.stdout
        assert {layer.compute_dtype for layer in tfc.load(output).layers} == {"float32"}
        models = tfc.load(given), tfc.load(output), small_job.one_device(tmp_path, epochs=2)
        for old, new, one in zip(*(model.get_weights() for model in models), strict=True):
            assert np.abs(new - one).max() < 0.4 * np.abs(one - old).max()

    # What was half written when it was killed goes away.
    (left,) = folder.glob(f"{PREFIX}*")
    atomic_files.check_target(folder / "half.json", ".json", overwrite=False)
    assert not left.exists()

    # A run that was killed in mid-schedule and resumed ends, bit by bit, as one that was not; with masks of a layer
    # alone, and with those of a budget for several.
    interrupted.train(tmp_path / "backup", undisturbed)
    interrupted.train(folder / "backup", resumed)
    with np.load(undisturbed) as want, np.load(resumed) as got:
        assert want.files == got.files
        masks = [want[name] for name in want.files if want[name].dtype == bool]
        assert 0.74 < 1 - np.mean(np.concatenate([mask.ravel() for mask in masks])) < 0.76
        for name in want.files:
            np.testing.assert_array_equal(got[name], want[name])
