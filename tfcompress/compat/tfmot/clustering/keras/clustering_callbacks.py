"""tfmot's callback for TensorBoard, which serves models of Keras 3 and of tf_keras."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.compat.tfmot.callbacks import Summaries
from tfcompress.core.arguments import check_count, check_path
from tfcompress.core.replicas import writes_files
from tfcompress.core.sharding import gathered
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.loading.keras2_packages import original_tfmot
from tfcompress.quantization.weights.codebook import Codebook
from tfcompress.reports.tensorboard import ScalarLog


class ClusteringSummaries(Summaries):
    """Writes to TensorBoard the values that the weights of each kernel share.

    Args:
        log_dir: Folder of the logs.
        cluster_update_freq: "epoch": at the end of each; "batch", or a number of batches: after so many.
        **kwargs: Other arguments of Keras' `TensorBoard`, for a model of tf_keras. To a model of Keras 3 add that
            callback to have its losses and histograms.

    Raises:
        TypeError: If `log_dir` is no path.
        ValueError: If it is empty, or `cluster_update_freq` is something else.
    """

    def __init__(
        self, log_dir: str | os.PathLike[str] = "logs", cluster_update_freq: str | int = "epoch", **kwargs: Any
    ):
        super().__init__()
        self.log_dir = os.fspath(check_path(log_dir))
        if not self.log_dir:
            raise ValueError("Expected `log_dir` to be the path of a folder. Received: log_dir=''.")
        batches = 1 if cluster_update_freq == "batch" else cluster_update_freq
        self.batches = 0 if batches == "epoch" else check_count("cluster_update_freq", batches)
        self.arguments = {"cluster_update_freq": cluster_update_freq, **kwargs}

    def parts_for(self, model: keras.Model) -> Sequence[Any]:
        """Return the callback that does it for a model of Keras 3."""
        return [_Values(os.path.join(self.log_dir, "clustering"), self.batches)]

    def originals(self) -> Sequence[Any]:
        """Return tfmot's callback."""
        return [original_tfmot().clustering.keras.ClusteringSummaries(self.log_dir, **self.arguments)]


class _Values(keras.callbacks.Callback):
    """Writes the values at the end of each epoch, or after so many batches."""

    def __init__(self, log_dir: str, batches: int):
        super().__init__()
        self._log = ScalarLog(log_dir if writes_files() else None)
        self._batches = batches
        self._step = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Count the batches."""
        self._step += 1
        if self._batches and self._step % self._batches == 0:
            self._write()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write them, if that is wanted now."""
        if not self._batches:
            self._write()

    def _write(self) -> None:
        for wrapper in wrapped_layers(self.model):
            for position, transform in wrapper.transforms:
                if isinstance(transform, Codebook):
                    name = f"clustering/{wrapper.name}/{wrapper.layer.weights[position].name}"
                    values = np.sort(gathered(transform.table()), axis=1).reshape(-1).tolist()
                    self._log.write({f"{name}/{place}": value for place, value in enumerate(values)}, self._step)
