"""A run that was killed in mid-schedule and resumed ends, bit by bit, as one that was not."""

from __future__ import annotations

import signal
import subprocess

import numpy as np
import pytest

from tests.check import run_program
from tests.programs.interrupted import main


@pytest.mark.long
def test_killed_and_resumed_equals_undisturbed(tmp_path):
    """With masks of a layer alone and with those of a budget for several; only what is killed is another process."""
    undisturbed, resumed = tmp_path / "undisturbed.npz", tmp_path / "resumed.npz"
    main(str(tmp_path / "a"), str(undisturbed), -1)
    with pytest.raises(subprocess.CalledProcessError) as killed:
        run_program("tests.programs.interrupted", str(tmp_path / "b"), str(resumed), "3")
    assert killed.value.returncode == -signal.SIGKILL
    assert not resumed.exists()
    main(str(tmp_path / "b"), str(resumed), -1)
    with np.load(undisturbed) as want, np.load(resumed) as got:
        assert want.files == got.files
        masks = [want[name] for name in want.files if want[name].dtype == bool]
        assert 0.74 < 1 - np.mean(np.concatenate([mask.ravel() for mask in masks])) < 0.76
        for name in want.files:
            np.testing.assert_array_equal(got[name], want[name])
