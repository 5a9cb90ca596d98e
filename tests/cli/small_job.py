"""A trained model and its data in a folder, and what training it on several devices is to give."""

from __future__ import annotations

import pathlib

import keras
import numpy as np
from keras import layers as L

import tfcompress as tfc
from tfcompress.pipeline import fit, read_npz
from tfcompress.pipeline.distribution import Devices
from tfcompress.pipeline.losses import loss_for


def make(folder: pathlib.Path) -> pathlib.Path:
    """Write `model.keras` and `data.npz`, and return the folder."""
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 240)
    x = (np.eye(3)[y].repeat(4, axis=1) + generator.normal(0, 0.3, (240, 12))).astype("float32")
    np.savez(folder / "data.npz", x_train=x[:180], y_train=y[:180], x_test=x[180:], y_test=y[180:])
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((12,), name="x"), L.Dense(32, activation="relu"), L.Dense(3, name="y")])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x[:180], y[:180], epochs=10, verbose=0)
    model.save(folder / "model.keras")
    return folder


def one_device(folder: pathlib.Path, epochs: int) -> keras.Model:
    """Return what training on several devices is to give: the same batches, on one."""
    data = read_npz(str(folder / "data.npz"))
    keras.utils.set_random_seed(0)
    model = tfc.load(folder / "model.keras")
    alike = Devices("mirrored")  # of one device, here: batches as those of several, in the same order
    fit(model, data, loss_for(model, data), epochs=epochs, batch_size=32, learning_rate=2e-3, devices=alike)
    return model
