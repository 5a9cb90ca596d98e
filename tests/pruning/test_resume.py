"""A run that was killed in mid-schedule and resumed ends, bit by bit, as one that was not."""

from __future__ import annotations

import signal
import subprocess

import numpy as np
import pytest

from tests.check import run_program


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_killed_and_resumed_equals_undisturbed(scope, tmp_path):
    program = "tests.programs.interrupted"
    undisturbed, resumed = tmp_path / "undisturbed.npz", tmp_path / "resumed.npz"
    run_program(program, str(tmp_path / "a"), str(undisturbed), "-1", scope)
    with pytest.raises(subprocess.CalledProcessError) as killed:
        run_program(program, str(tmp_path / "b"), str(resumed), "3", scope)
    assert killed.value.returncode == -signal.SIGKILL
    assert not resumed.exists()
    run_program(program, str(tmp_path / "b"), str(resumed), "-1", scope)
    with np.load(undisturbed) as want, np.load(resumed) as got:
        assert want.files == got.files
        masks = [want[name] for name in want.files if want[name].dtype == bool]
        assert 0.74 < 1 - np.mean(np.concatenate([mask.ravel() for mask in masks])) < 0.76
        for name in want.files:
            np.testing.assert_array_equal(got[name], want[name])
