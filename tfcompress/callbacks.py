"""Keras callbacks that show what goes on; none of them is needed for anything to work."""

from __future__ import annotations

import os
from typing import Any

import keras

from tfcompress.evaluation.summary import sparsity
from tfcompress.pruning.mask import Mask
from tfcompress.transform import read
from tfcompress.wrapper import wrapped_layers


class PruningSummaries(keras.callbacks.Callback):
    """Writes the sparsity of each kernel to TensorBoard, and a line after every epoch.

    Args:
        log_dir: Folder of the TensorBoard logs; `None` writes none.
        verbose: 1 prints a line after every epoch, 0 doesn't.

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
        self.log_dir = log_dir
        self.verbose = verbose
        self._writer: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Open the log."""
        if self.log_dir is not None:
            import tensorflow as tf

            self._writer = tf.summary.create_file_writer(os.fspath(self.log_dir))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the sparsities."""
        wrappers = wrapped_layers(self.model)
        masks = [t for wrapper in wrappers for _, t in wrapper.transforms if isinstance(t, Mask)]
        if not masks:
            return
        step = int(read(wrappers[0].step))
        asked = float(keras.ops.convert_to_numpy(masks[0].config.schedule.sparsity(max(step - 1, 0))))
        reached = float(sparsity(self.model))  # type: ignore[arg-type]
        if self.verbose:
            print(f"step {step}: {reached:.1%} of the kernels zero; schedule: {asked:.1%}".replace("%", " %"))
        if self._writer is not None:
            per_layer = sparsity(self.model, per_layer=True)
            assert isinstance(per_layer, dict)
            self._write({"sparsity/all": reached, "sparsity/schedule": asked}, step)
            self._write({f"sparsity/{name}": value for name, value in per_layer.items()}, step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the log."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, scalars: dict[str, float], step: int) -> None:
        import tensorflow as tf

        # `tf.summary.scalar` needs TensorBoard installed; what it writes is this.
        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        )
        with self._writer.as_default():
            for name, value in scalars.items():
                tf.summary.write(name, tf.constant(value, tf.float32), step=step, metadata=metadata)
