"""Keras callbacks that report on training; none of them is needed for correctness."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfcompress.core.arguments import check_count, check_path
from tfcompress.core.replicas import writes_files
from tfcompress.core.transform import read
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.core.wrappers import remarks
from tfcompress.evaluation.summary import summary
from tfcompress.precision.monitoring import PrecisionMonitor
from tfcompress.pruning.mask import Mask
from tfcompress.reports.tensorboard import ScalarLog

__all__ = ["PrecisionMonitor", "PruningSummaries"]


@dataclasses.dataclass(frozen=True)
class SparsityScalars:
    """How sparse a model is that is pruned.

    Attributes:
        step: How many training steps it has gone through.
        reached: The share of zeros in all kernels.
        asked: What the schedule says.
        each: {kernel: its share of zeros}.
        changes: The training step, as schedules count them, from 0, at which masks next change; -1: at none; `None`:
            that isn't known.
    """

    step: int
    reached: float
    asked: float
    each: Mapping[str, float]
    changes: int | None

    def scalars(self) -> dict[str, float]:
        """Return the numbers by their names in TensorBoard."""
        named = {f"sparsity/{name}": value for name, value in self.each.items()}
        return {"sparsity/all": self.reached, "sparsity/schedule": self.asked, **named}

    def __str__(self) -> str:
        line = f"step {self.step}: {self.reached:.1%} of the kernels zero; schedule: {self.asked:.1%}"
        if self.changes is not None:
            stay = self.changes == -1
            line += "; masks stay as they are" if stay else f"; masks next change at step {self.changes}"
        return line.replace("%", " %")


def sparsity_scalars(model: keras.Model) -> SparsityScalars | None:
    """Return how sparse a model is that is pruned; `None` if none of its weights has a mask."""
    wrappers = wrapped_layers(model)
    masks = [t for wrapper in wrappers for _, t in wrapper.transforms if isinstance(t, Mask)]
    if not masks:
        return None
    step = int(read(wrappers[0].step))
    asked = float(keras.ops.convert_to_numpy(masks[0].config.schedule.sparsity(max(step - 1, 0))))
    found = summary(model)
    return SparsityScalars(step, found.sparsity, asked, found.sparsities, _changes(masks, step))


def _changes(masks: Sequence[Mask], step: int) -> int | None:
    """Return when the first of several masks changes, as `SparsityScalars.changes`."""
    steps = []
    for mask in masks:
        schedule = mask.config.schedule
        final = schedule.known_final() is not None and not schedule.regrows and mask.config.threshold is None
        if final and step and schedule.goal(step) is None:
            continue
        try:
            steps.append(schedule.next_update(step))
        except ValueError:
            return None
    return min((due for due in steps if due is not None), default=-1)


class PruningSummaries(keras.callbacks.Callback):
    """Writes the sparsity of each kernel to TensorBoard, and a line after every epoch: also when masks next change.

    In several processes, each of which has to have it, the first one writes.

    Args:
        log_dir: Folder of the TensorBoard logs; `None` writes none.
        verbose: 1 prints a line after every epoch, and at the end which layers have next to nothing left; 0 doesn't.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> model = tfc.prune(keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)]), 0.5)
    >>> model.compile("sgd", "mse")
    >>> summaries = tfc.callbacks.PruningSummaries()
    >>> _ = model.fit(np.ones((4, 8)), np.ones((4, 4)), verbose=0, callbacks=[summaries])
    step 1: 50.0 % of the kernels zero; schedule: 50.0 %; masks stay as they are
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None = None, verbose: int = 1):
        super().__init__()
        check_count("verbose", int(verbose) if isinstance(verbose, bool) else verbose, 0, 2)
        self.log_dir = None if log_dir is None else check_path(log_dir)
        self.verbose = verbose
        self._log = ScalarLog(None)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Open the log."""
        self._log = ScalarLog(self.log_dir if writes_files() else None)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the sparsities."""
        found = sparsity_scalars(self.model)
        if found is None:
            return
        if self.verbose and writes_files():
            print(found)
        self._log.write(found.scalars(), found.step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the log; say what next to nothing is left of."""
        if self.verbose:
            said = remarks(self.model)  # of a divided model all processes have to ask
            for text in said if writes_files() else ():
                print(text)
        self._log.close()
