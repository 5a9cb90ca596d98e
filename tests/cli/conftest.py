"""Programs are run in this process: each start of one of its own costs seconds, which import TensorFlow."""

from __future__ import annotations

import logging
import pathlib
import runpy
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from absl import flags

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Any]]:
    """A function from a program's name and flags to what it prints; it checks the exit code.

    The program runs as `python scripts/NAME.py FLAGS`, but here. What precedes the import of TensorFlow is left out,
    and what Python warns of is an error.
    """
    monkeypatch.setitem(sys.modules, "_environment", types.ModuleType("_environment"))
    state = vars(flags.FLAGS)
    before = {name: _copied(value) for name, value in state.items()}
    logger = logging.getLogger("tensorflow")
    level = logger.level

    def run(name: str, *given: str, code: int = 0, cwd: pathlib.Path | None = None) -> types.SimpleNamespace:
        path = str(SCRIPTS / f"{name}.py")
        _forget_flags()
        capsys.readouterr()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "argv", [path, *given])
            patched.chdir(cwd or SCRIPTS.parent)
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(path, run_name="__main__")
        printed = capsys.readouterr()
        assert ended.value.code == code, printed.err[-3000:]
        return types.SimpleNamespace(stdout=printed.out, stderr=printed.err)

    yield run
    state.clear()
    state.update(before)
    logger.setLevel(level)


def _forget_flags() -> None:
    """Leave of the flags that are defined only absl's own, as when a program starts."""
    for module, defined in list(flags.FLAGS.flags_by_module_dict().items()):
        if not module.startswith("absl"):
            for flag in list(defined):
                delattr(flags.FLAGS, flag.name)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: list(one) if isinstance(one, list) else one for key, one in value.items()}
    return value
