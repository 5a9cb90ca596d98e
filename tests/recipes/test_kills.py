"""Runs of a recipe that are killed by SIGKILL end as if they had not been: a tenth of the campaign."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.rare
def test_killed_runs_end_as_others():
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaigns.recipe_kills", "3"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
