"""A job that was killed goes on where it was: what its trainings had reached lies in a folder beside the result.

Keras' `BackupAndRestore` writes weights and epoch number one after the other and in place, so that a kill between or
within the two spoils a backup, and it leaves out the seeds of dropout. Here all of it is one file, written whole.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
import shutil
import time
import zipfile
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.core.atomic_files import check_room, write_bytes, write_text
from tfcompress.core.transform import read

PREFIX = ".tfcompress-resume-"
"""Begins the name of the folder of a job that isn't done."""

SECONDS = 30.0
"""Between two backups within an epoch."""

SHARE = 0.05
"""Of the time of a training that goes into these at most."""


class Resume:
    """What a job had reached when it was killed.

    From `begin`, before anything is written, to `done`, after everything is, the same job goes on: it may replace what
    lies there.

    Args:
        target: The file or folder that the job makes; the backups lie in a folder beside it.
        job: What the job is: arguments, and digests of data and models. What another job left is not used.

    Example:

    >>> import tempfile
    >>> target = pathlib.Path(tempfile.mkdtemp()) / "model.keras"
    >>> job = Resume(target, {"epochs": 3})
    >>> job.begun, job.backup("train").epochs
    (False, 0)
    """

    def __init__(self, target: str | os.PathLike[str], job: Mapping[str, Any]):
        self.place = pathlib.Path(os.path.realpath(target))
        name = hashlib.sha256(os.fsencode(self.place.name)).hexdigest()[:12]
        self.folder = self.place.with_name(PREFIX + name)
        self.job = json.dumps(dict(job), sort_keys=True, default=str)
        self.begun = _text(self.folder / "job.json") == self.job

    def backup(self, name: str) -> Backup:
        """Return the backup of one of the job's trainings, by its name."""
        return Backup(self, name)

    def begin(self) -> None:
        """Make the folder, without what another job left there: from here on something is written."""
        if not self.begun:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(exist_ok=True)
            write_text(self.folder / "job.json", self.job)
            self.begun = True

    def done(self) -> None:
        """Remove all backups: all that the job makes is written."""
        if self.begun:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.begun = False

    def failed(self) -> None:
        """Forget a job that ended with an error, unless it has made something to go on with."""
        if self.begun and not self.place.exists() and not any(self.folder.glob("*.npz")):
            self.done()


class Backup(keras.callbacks.Callback):
    """Writes after each epoch, and within long ones, all that a training needs to go on: weights, optimizer, seeds.

    Args:
        resume: The job.
        name: Of the training.
    """

    def __init__(self, resume: Resume, name: str):
        super().__init__()
        self.resume = resume
        self.file = resume.folder / f"{name}.npz"
        self.stored = _arrays(self.file) if resume.begun else {}
        self.epoch = self.before = 0
        self.due = time.monotonic() + SECONDS

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return int(self.stored["epochs"]) if self.stored else 0

    @property
    def batches(self) -> int:
        """How many batches of the next epoch are done."""
        return int(self.stored.get("batches", 0))

    def restore(self, model: keras.Model) -> int:
        """Give a compiled model what it had, and return how many epochs are done; 0, with no batches, if none fits."""
        model.optimizer.build(model.trainable_variables)
        check_room(self.resume.folder, sum(4 * int(np.prod(variable.shape)) for variable in _state(model)))
        values = []
        for place, variable in enumerate(_state(model)):
            value, now = self.stored.get(str(place)), read(variable)
            if value is None or value.size != now.nbytes:
                self.stored = {}
                return 0
            values.append(np.frombuffer(value.tobytes(), now.dtype).reshape(now.shape))
        self.stored = {"epochs": np.array(self.epochs), "batches": np.array(self.batches)} if values else {}
        for variable, value in zip(_state(model), values, strict=True):
            variable.assign(value)
        return self.epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note which epoch it is, and how many of its batches an earlier run did."""
        self.epoch, self.before = epoch, self.batches if epoch == self.epochs else 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Write the backup, if that is due."""
        if time.monotonic() >= self.due:
            self._write(self.epoch, self.before + batch + 1)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the backup."""
        self._write(epoch + 1, 0)

    def _write(self, epochs: int, batches: int) -> None:
        begun = time.monotonic()
        values: dict[str, Any] = {"epochs": np.array(epochs), "batches": np.array(batches)}
        for place, variable in enumerate(_state(self.model)):  # as bytes: numpy's files know no bfloat16
            values[str(place)] = np.frombuffer(read(variable).tobytes(), np.uint8)
        stream = io.BytesIO()
        np.savez(stream, **values)
        self.resume.begin()
        write_bytes(self.file, stream.getvalue())
        now = time.monotonic()
        self.due = now + max(SECONDS, (now - begun) / SHARE)


def digest(path: str | os.PathLike[str] | None, *, contents: bool = True) -> str:
    """Return what tells a file or folder from others; "" for none.

    Args:
        path: Where it lies.
        contents: Whether all is read; otherwise it is told by the names, sizes and times of files: data may be large.
    """
    if not path or not os.path.exists(path):
        return ""
    found = hashlib.sha256()
    place = pathlib.Path(path)
    for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if file.is_file():
            found.update(file.relative_to(place).as_posix().encode())
            if not contents:
                state = file.stat()
                found.update(f"{state.st_size} {state.st_mtime_ns}".encode())
                continue
            with file.open("rb") as stream:
                while chunk := stream.read(1 << 20):
                    found.update(chunk)
    return found.hexdigest()


def _state(model: keras.Model) -> list[keras.Variable]:
    return [*model.variables, *model.optimizer.variables]


def _text(file: pathlib.Path) -> str | None:
    try:
        return file.read_text()
    except (OSError, ValueError):
        return None


def _arrays(file: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):  # none, or the disk spoilt it
        return {}
