"""Trains a pruned model with BackupAndRestore and writes its weights; may kill its process in mid-schedule."""

from __future__ import annotations

import os
import pathlib
import signal

import keras
import numpy as np
from keras import layers as L

import tfcompress as tfc


class Kill(keras.callbacks.Callback):
    """Sends this process SIGKILL in the middle of an epoch."""

    def __init__(self, epoch: int):
        super().__init__()
        self.epoch, self.now = epoch, -1

    def on_epoch_begin(self, epoch, logs=None):
        """Remember the epoch."""
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Kill the process."""
        if self.now == self.epoch and batch == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def train(backup: pathlib.Path, output: pathlib.Path, kill_in: int | None = None) -> None:
    """Train for six epochs of five steps; without dropout, whose seeds Keras itself does not back up.

    One layer is pruned by itself, two share a budget.
    """
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 10)), generator.normal(size=(40, 3))
    layers = [
        L.Dense(16, activation="relu", name="a"),
        L.BatchNormalization(),
        L.Dense(8, name="b"),
        L.Dense(3, name="c"),
    ]
    model = keras.Sequential([keras.Input((10,)), *layers])
    schedule = tfc.PolynomialSparsity(0.0, 0.75, begin_step=2, end_step=26, frequency=3)
    pruned = tfc.prune(model, tfc.PruneConfig(schedule), layers="a")
    pruned = tfc.prune(pruned, tfc.PruneConfig(schedule, scope="global"), layers=["b", "c"])
    pruned.compile(keras.optimizers.Adam(0.01), "mse")
    callbacks = [keras.callbacks.BackupAndRestore(str(backup))]
    if kill_in is not None:
        callbacks.append(Kill(kill_in))
    pruned.fit(x, y, batch_size=8, epochs=6, shuffle=False, verbose=0, callbacks=callbacks)
    values = [keras.ops.convert_to_numpy(v.value) for v in pruned.variables]
    np.savez(output, *values)
