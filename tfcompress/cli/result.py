"""What a job found and made, as JSON: for a file or standard output."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shlex
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli.output_paths import new_file

if TYPE_CHECKING:
    from tfcompress.data.dataset import Dataset
    from tfcompress.export.artifact import Artifact

STDOUT = "-"


@contextlib.contextmanager
def printing(values: FlagValues) -> Iterator[None]:
    """Let what is printed go where the flags say: with --json=- to standard error, with --verbosity=quiet nowhere.

    What Python warns of goes to standard error; with --verbosity=quiet, nowhere.
    """
    with contextlib.ExitStack() as stack:
        if values.verbosity == "quiet":
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        elif values.json == STDOUT:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def check_target_of_result(values: FlagValues, here: bool, begun: bool) -> None:
    """Refuse a --json that can't be written, before any work is done.

    Args:
        values: The job's flags.
        here: Whether this process writes files.
        begun: Whether an earlier run of this command was killed: then the file may be of that.
    """
    if values.json not in (None, STDOUT):
        new_file(values.json, ".json", begun or values.overwrite, here=here)


def about(values: FlagValues, job: str, data: Dataset, model: str | None = None) -> dict[str, Any]:
    """Return what a report says beside its figures: the model, the data, the seed, and the command that made it.

    Args:
        values: The job's flags.
        job: Its name.
        data: What it looked at.
        model: The model's name, where the report is about one.
    """
    seed = {"seed": values.seed} if "seed" in values else {}
    return {
        **({"model": model} if model else {}),
        "data": data.name,
        "division": data.division(),
        **seed,
        "command": command_of(values, job),
    }


def command_of(values: FlagValues, job: str) -> str:
    """Return the command that a job was called with, as a shell takes it: flags of a file too, in one spelling."""
    given = sorted({values[name].name for name in values if values[name].present})
    return shlex.join(["tfcompress", job, *(values[name].serialize() for name in given)])


def files_made(paths: Iterable[str | os.PathLike[str]]) -> list[dict[str, Any]]:
    """Return paths and sizes of files that a job made."""
    return [{"path": str(path), "bytes": pathlib.Path(path).stat().st_size} for path in paths]


def described(artifact: Artifact) -> dict[str, Any]:
    """Return what is known of an exported file."""
    tensors = {
        kind: {name: dataclasses.asdict(info) for name, info in getattr(artifact, kind).items()}
        for kind in ("inputs", "outputs")
    }
    return {
        "path": str(artifact.path),
        "bytes": artifact.nbytes,
        "format": artifact.format,
        "precision": artifact.precision,
        **tensors,
        "operators": artifact.operators and dataclasses.asdict(artifact.operators),
        "parity": artifact.parity and dataclasses.asdict(artifact.parity),
        "notes": list(artifact.notes),
        "weights": [dataclasses.asdict(one) for one in artifact.weights],
    }


def write(values: FlagValues, job: str, result: dict[str, Any]) -> None:
    """Write the result of a job where --json says, if it does."""
    if values.json is None:
        return
    from tfcompress.core.atomic_files import write_text
    from tfcompress.core.versions import versions
    from tfcompress.reports.tables import plain

    common: dict[str, Any] = {"job": job, "command": command_of(values, job)}
    if "seed" in values:
        common["seed"] = values.seed
    text = json.dumps(plain({**common, "versions": versions(), **result}), indent=2, ensure_ascii=False) + "\n"
    if values.json == STDOUT:
        sys.stdout.write(text)
    else:
        write_text(pathlib.Path(values.json), text)
