"""Jobs are run in this process: each start of one of its own costs seconds, which import TensorFlow."""

from __future__ import annotations

import logging
import pathlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tfcompress.cli.main import code_of

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Any]]:
    """A function from a job's name and flags to what it prints; it checks the exit code.

    The job runs as `tfcompress JOB FLAGS`, but here: signals aren't watched, and what Python warns of is an error.
    """
    logger = logging.getLogger("tensorflow")
    level = logger.level

    def run(*command: str, code: int = 0, cwd: pathlib.Path | None = None) -> types.SimpleNamespace:
        capsys.readouterr()
        with monkeypatch.context() as patched:
            patched.chdir(cwd or ROOT)
            ended = code_of(command)
        printed = capsys.readouterr()
        assert ended == code, printed.err[-3000:]
        return types.SimpleNamespace(stdout=printed.out, stderr=printed.err)

    yield run
    logger.setLevel(level)
