"""Measuring in a process of its own, so that nothing is there already."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]


def in_a_process(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Any:
    """Return what `python -m benchmarks.MODULE ARGUMENTS` prints last, as JSON; end with its errors if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])
