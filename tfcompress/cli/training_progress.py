"""A progress bar in a terminal, nothing in a pipe."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class _Advance(keras.callbacks.Callback):
    def __init__(self, progress: Progress, task: Any, epochs: int):
        super().__init__()
        self.progress, self.task, self.epochs = progress, task, epochs

    def on_train_begin(self, logs: Any = None) -> None:
        if self.params.get("steps"):
            self.progress.update(self.task, total=self.params["steps"] * self.epochs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.progress.advance(self.task)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        shown = "  ".join(f"{name} {float(value):.4f}" for name, value in (logs or {}).items())
        self.progress.update(self.task, note=f"epoch {epoch + 1}/{self.epochs}  {shown}")


@contextlib.contextmanager
def stage(text: str, epochs: int = 0) -> Iterator[Sequence[keras.callbacks.Callback]]:
    """Show one part of a job while it runs, and how long it took when it is done.

    Args:
        text: What is done.
        epochs: Epochs of training, where it is training.

    Yields:
        Callbacks for `model.fit`, which move the bar.
    """
    if not sys.stderr.isatty():
        yield ()
        return
    begun = time.perf_counter()
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console, transient=True) as progress:
        task = progress.add_task(text, total=None, note="")
        yield (_Advance(progress, task, epochs),) if epochs else ()
    console.print(f"{text}: {time.perf_counter() - begun:.1f} s", highlight=False)
