"""Keras callbacks that report on training; none of them is needed for correctness."""

from __future__ import annotations

import os
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


class PruningSummaries(keras.callbacks.Callback):
    """Writes the sparsity of each kernel to TensorBoard, and a line after every epoch.

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
    step 1: 50.0 % of the kernels zero; schedule: 50.0 %
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
        wrappers = wrapped_layers(self.model)
        masks = [t for wrapper in wrappers for _, t in wrapper.transforms if isinstance(t, Mask)]
        if not masks:
            return
        step = int(read(wrappers[0].step))
        asked = float(keras.ops.convert_to_numpy(masks[0].config.schedule.sparsity(max(step - 1, 0))))
        found = summary(self.model)
        reached = found.sparsity
        if self.verbose and writes_files():
            print(f"step {step}: {reached:.1%} of the kernels zero; schedule: {asked:.1%}".replace("%", " %"))
        if self.log_dir is not None:
            self._log.write({"sparsity/all": reached, "sparsity/schedule": asked}, step)
            self._log.write({f"sparsity/{name}": value for name, value in found.sparsities.items()}, step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the log; say what next to nothing is left of."""
        if self.verbose:
            said = remarks(self.model)  # of a divided model all processes have to ask
            for text in said if writes_files() else ():
                print(text)
        self._log.close()
