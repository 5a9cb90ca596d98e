"""Numbers for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


class ScalarLog:
    """A log of scalars, as TensorBoard reads it; without a folder nothing is written, nor TensorFlow imported.

    Args:
        log_dir: Folder of the TensorBoard logs, or `None`.

    Example:

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = ScalarLog(folder)
    ...     log.write({"sparsity/all": 0.5}, step=10)
    ...     log.close()
    ...     len(os.listdir(folder))
    1
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None):
        self._writer: Any = None
        if log_dir is not None:
            import tensorflow as tf

            self._writer = tf.summary.create_file_writer(os.fspath(log_dir))

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Write numbers by their names.

        Args:
            scalars: {name: value}; a slash in a name makes a group.
            step: Training step that they belong to.
        """
        if self._writer is None:
            return
        import tensorflow as tf

        # `tf.summary.scalar` needs TensorBoard installed; what it writes is this.
        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        )
        with self._writer.as_default():
            for name, value in scalars.items():
                tf.summary.write(name, tf.constant(value, tf.float32), step=step, metadata=metadata)

    def close(self) -> None:
        """Finish the file; nothing is written from then on."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
