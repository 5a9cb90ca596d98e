"""tfmot's callbacks, which serve models of Keras 3 and of tf_keras."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import keras

from tfcompress.callbacks import sparsity_scalars
from tfcompress.compat.tfmot.callbacks import ForEitherKeras, Summaries, hook
from tfcompress.core.arguments import check_path
from tfcompress.core.replicas import writes_files
from tfcompress.core.transform import Projection
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.loading.keras2_packages import original_tfmot
from tfcompress.reports.tensorboard import ScalarLog


class UpdatePruningStep(ForEitherKeras):
    """Keeps weights zero where they are pruned, at the end of each epoch.

    With Keras' optimizers they are at the end of each batch, and masks follow their schedule in each forward pass with
    `training=True`: the callback isn't needed for them. A loop of one's own that applies gradients otherwise calls
    `on_epoch_end`.
    """

    def parts_for(self, model: keras.Model) -> Sequence[Any]:
        """Return the callback that does it for a model of Keras 3."""
        return [_Zeros()]

    def originals(self) -> Sequence[Any]:
        """Return tfmot's callback."""
        return [original_tfmot().sparsity.keras.UpdatePruningStep()]

    on_train_begin = hook("on_train_begin")

    def on_epoch_end(self, batch: int = -1, logs: Any = None) -> None:
        """Do it."""
        for part in self.parts:
            part.on_epoch_end(batch, logs)


class PruningSummaries(Summaries):
    """Writes the sparsity of each kernel to TensorBoard at the beginning of each epoch, and at the end.

    Args:
        log_dir: Folder of the logs; those of sparsity go to "metrics" in it.
        update_freq: For a model of tf_keras, as of Keras' `TensorBoard`, whose other arguments are taken for it, too.
            To a model of Keras 3 add that callback to have its losses.

    Raises:
        TypeError: If `log_dir` is no path.
        ValueError: If it is empty.
    """

    def __init__(self, log_dir: str | os.PathLike[str], update_freq: str | int = "epoch", **kwargs: Any):
        super().__init__()
        self.log_dir = os.fspath(check_path(log_dir))
        if not self.log_dir:
            raise ValueError("Expected `log_dir` to be the path of a folder. Received: log_dir=''.")
        self.arguments = {"update_freq": update_freq, **kwargs}

    def parts_for(self, model: keras.Model) -> Sequence[Any]:
        """Return the callback that does it for a model of Keras 3."""
        return [_Sparsities(os.path.join(self.log_dir, "metrics"))]

    def originals(self) -> Sequence[Any]:
        """Return tfmot's callback."""
        return [original_tfmot().sparsity.keras.PruningSummaries(self.log_dir, **self.arguments)]


class _Zeros(keras.callbacks.Callback):
    """Sets weights to zero under their masks. (On JAX optimizers see weights apart from the layers': when stripped.)"""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if keras.backend.backend() != "tensorflow":
            return
        for wrapper in wrapped_layers(self.model):
            for position in {position for position, _ in wrapper.transforms}:
                weight = wrapper.layer.weights[position]
                weight.assign(Projection(None, wrapper.chain(position))(weight))


class _Sparsities(keras.callbacks.Callback):
    def __init__(self, log_dir: str):
        super().__init__()
        self._scalars = ScalarLog(log_dir if writes_files() else None)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Write the sparsities."""
        found = sparsity_scalars(self.model)
        if found is not None:
            self._scalars.write(found.scalars(), found.step)

    def on_train_end(self, logs: Any = None) -> None:
        self.on_epoch_begin(-1)
