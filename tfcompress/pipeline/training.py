"""Training with settings that fit the model and the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from tfcompress.graph.output_activation import last_activation
from tfcompress.pipeline.checkpoints import Backup
from tfcompress.pipeline.datasets import Data
from tfcompress.pipeline.distribution import ONE, Devices
from tfcompress.pipeline.epoch_batches import WholeBatches

MOST_OUTPUTS = 1 << 20
"""Of the model that is made for data; more are numbers that are no classes."""


def default_model(data: Data) -> keras.Model:
    """Return an untrained model for `data`: a small convolutional one for images, else a dense one; logits."""
    shape = data.x_train.shape[1:]
    outputs = data.classes or int(np.prod(data.y_train.shape[1:]))
    if outputs > MOST_OUTPUTS:
        raise ValueError(
            f"Expected at most {MOST_OUTPUTS:,} classes, numbered 0, 1, 2, ... Received: {outputs - 1} as the largest "
            "number. Number them anew, or take targets that aren't whole numbers for a regression."
        )
    inputs = keras.Input(shape, name="input")
    if len(shape) in (2, 3):
        x = layers.Reshape((*shape, 1))(inputs) if len(shape) == 2 else inputs
        for index, filters in enumerate((16, 32, 32)):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv_{index}")(x)
            x = layers.BatchNormalization(name=f"norm_{index}")(x)
            x = layers.ReLU(name=f"relu_{index}")(x)
            if index == 1 and min(x.shape[1:3]) >= 4:
                x = layers.MaxPooling2D(name="pool")(x)
        x = layers.Flatten(name="flat")(x)
    else:
        x = layers.Flatten(name="flat")(inputs)
    x = layers.Dense(64, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(outputs, name="logits")(x), name=data.name)


def check_fits(model: keras.Model, data: Data) -> None:
    """Raise ValueError unless a model with one input and one output takes and gives what is in `data`."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"Expected a model with one input and one output. Received: {model.name!r} with {len(model.inputs)} and "
            f"{len(model.outputs)}. Train such a model in Python, with tfcompress.prune and model.fit."
        )
    declared, given = tuple(model.inputs[0].shape[1:]), data.x_train.shape[1:]
    if len(declared) != len(given) or any(d not in (None, g) for d, g in zip(declared, given, strict=True)):
        raise ValueError(f"Expected x_train with samples of shape {declared}. Received: {given}.")
    width = model.outputs[0].shape[-1]
    if data.classes is None:
        wanted = tuple(model.outputs[0].shape[1:])
        given = data.y_train.shape[1:] or (1,)
        if len(wanted) != len(given) or any(w not in (None, g) for w, g in zip(wanted, given, strict=True)):
            raise ValueError(f"Expected targets of shape {wanted}, as the model's output. Received: {given}.")
    if data.classes is not None and width not in (None, 1) and data.classes > width:
        raise ValueError(f"Expected classes from 0 to {width - 1}, as the model has. Received: {data.classes - 1}.")


def loss_for(model: keras.Model, data: Data) -> Any:
    """Return the loss that a model was compiled with, or else the one that its output and the targets ask for."""
    logits = last_activation(model.outputs[0]) not in ("softmax", "sigmoid")
    if getattr(model, "compiled", False) and model.loss is not None:
        if data.classes is not None and is_categorical(model.loss):  # classes of data are whole numbers
            return keras.losses.SparseCategoricalCrossentropy(from_logits=getattr(model.loss, "from_logits", logits))
        return model.loss
    if data.classes is None:
        return keras.losses.MeanSquaredError()
    if model.outputs[0].shape[-1] == 1:
        return keras.losses.BinaryCrossentropy(from_logits=logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=logits)


def is_categorical(loss: Any) -> bool:
    """Return whether a loss takes one-hot rows."""
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return name in ("categorical_crossentropy", "CategoricalCrossentropy")


def fit(
    model: keras.Model,
    data: Data,
    loss: Any,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    devices: Devices = ONE,
    backup: Backup | None = None,
) -> None:
    """Train in place with Adam, its rate falling as half a cosine to a hundredth; shuffled by Keras' seed.

    With a `backup`, in one process, it goes on where it was when it was killed, and ends as if it had not been.
    """
    steps = epochs * steps_per_epoch(data, batch_size, devices)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps, alpha=0.01)
    how: dict[str, Any] = {"epochs": epochs, "verbose": 0, "callbacks": list(callbacks)}

    def run(there: keras.Model) -> None:
        there.compile(keras.optimizers.Adam(rate), loss)
        x, y = data.x_train, data.y_train
        if backup is None or devices.processes > 1:
            if devices is ONE:
                there.fit(x, y, batch_size=batch_size, **how)
            else:
                there.fit(devices.batches(x, y, batch_size), shuffle=False, **how)
            return
        begun = backup.restore(there)
        if devices is ONE:
            batches = WholeBatches(x, y, batch_size, begun=begun, whole=False)
        else:
            batches = devices.batches(x, y, batch_size, begun)
        if begun < epochs:
            how["callbacks"].append(backup)
            there.fit(batches, shuffle=False, initial_epoch=begun, **how)

    devices.train(model, run)


def steps_per_epoch(data: Data, batch_size: int, devices: Devices = ONE) -> int:
    """Return how many batches an epoch has; several devices leave out an incomplete one."""
    return len(data.x_train) // batch_size if devices is not ONE else -(-len(data.x_train) // batch_size)
