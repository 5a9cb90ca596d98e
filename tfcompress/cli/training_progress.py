"""How far a job is: a bar on a terminal; elsewhere a line for each epoch, and one for each part that is done."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from absl.flags import FlagValues
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from tfcompress.cli.device_flags import writes_files
from tfcompress.core.versions import versions
from tfcompress.pipeline.stages import Stage, silent

_WIDE, _FIGURES = 20, 40
"""Columns of a terminal: for the bar where there is room, and for figures beside it."""

_KNOWN = 44
"""Those of step, percent and time left, with what is between them."""


class _Advance(keras.callbacks.Callback):
    """Moves a bar by each step."""

    def __init__(self, progress: Progress, task: Any, epochs: int):
        super().__init__()
        self.progress, self.task, self.epochs = progress, task, epochs
        self.figures = ""
        self.steps = 0  # of the last epoch: Keras knows no number beforehand where data is read on the way

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if steps := self.params.get("steps") or self.steps:
            self.progress.update(self.task, total=steps * self.epochs, completed=steps * epoch)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps = batch + 1
        self.progress.advance(self.task)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.figures = _figures(logs)
        self.progress.update(self.task, note=f"epoch {epoch + 1}/{self.epochs}  {self.figures}")


class _Lines(keras.callbacks.Callback):
    """Prints a line for each epoch."""

    def __init__(self, text: str, epochs: int):
        super().__init__()
        self.text, self.epochs, self.begun = text, epochs, 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        seconds = time.perf_counter() - self.begun
        print(f"{self.text}: epoch {epoch + 1}/{self.epochs}  {_figures(logs)}  {seconds:.1f} s")


def _figures(logs: Any) -> str:
    """Return the figures of an epoch: those of training before those of validation (`val_`), the loss before others."""
    given = sorted((logs or {}).items(), key=lambda item: (item[0].startswith("val_"), "loss" not in item[0]))
    return "  ".join(f"{name} {float(value):.4f}" for name, value in given)


def stage_of(values: FlagValues) -> Stage:
    """Return what a job shows each of its parts with: `with stage(text, epochs) as callbacks:` surrounds one.

    The callbacks are for `model.fit`. With --verbosity=quiet, and in a process that isn't the first of several, nothing
    is shown.
    """
    if values.verbosity == "quiet" or not writes_files(values):
        return silent
    said = False

    @contextlib.contextmanager
    def stage(text: str, epochs: int = 0) -> Iterator[Sequence[keras.callbacks.Callback]]:
        nonlocal said
        begun = time.perf_counter()
        bar = sys.stderr.isatty()
        lines = not (bar and sys.stdout.isatty())
        if epochs and lines and not said:
            said = True
            print(_circumstances(values))
        with contextlib.ExitStack() as stack:
            callbacks: list[keras.callbacks.Callback] = [_Lines(text, epochs)] if epochs and lines else []
            if bar:
                progress = stack.enter_context(_bar(text, epochs))
                advance = _Advance(progress, progress.add_task(text, total=None, note=""), epochs)
                callbacks += [advance] if epochs else []
            yield callbacks
        done = f"{text}: {time.perf_counter() - begun:.1f} s"
        if lines:
            print(done)
        else:
            Console(stderr=True).print(
                f"{done}  {advance.figures}".rstrip(), highlight=False, markup=False, soft_wrap=True
            )

    return stage


def _bar(text: str, epochs: int) -> Progress:
    """Return a bar: of a training with step, percent and time left; of another part, whose end isn't known, without.

    What else there is to say, the figures of the last epoch, is cut where a line has no room for it.
    """
    console = Console(stderr=True)
    rest = console.width - len(text) - _KNOWN
    wide = _WIDE if rest > _WIDE + _FIGURES else _WIDE // 2
    note = Column(no_wrap=True, overflow="ellipsis", max_width=max(rest - wide, 1))
    left = (TimeRemainingColumn(), TextColumn("left"))
    known = (
        (TextColumn("step"), MofNCompleteColumn(), TaskProgressColumn(), *left) if epochs else (TimeElapsedColumn(),)
    )
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(wide), *known)
    how: dict[str, Any] = {"console": console, "transient": True}
    last = TextColumn("{task.fields[note]}", table_column=note)
    # What is printed meanwhile goes above the bar, unless standard output is a file or a pipe.
    return Progress(*columns, last, redirect_stdout=sys.stdout.isatty(), **how)


def _circumstances(values: FlagValues) -> str:
    """Return what a result depends on beside the flags."""
    found = versions()
    names = (name for name in ("tfcompress", "keras", found["backend"], "python") if name in found)
    return f"{', '.join(f'{name} {found[name]}' for name in names)}; seed {values.seed}"
