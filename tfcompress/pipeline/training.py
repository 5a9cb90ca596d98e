"""Training with settings that fit the model and the data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from tfcompress.core.arguments import short
from tfcompress.data.dataset import Dataset, Target
from tfcompress.data.reading import pairs
from tfcompress.data.unscaled_pixels import HEAD, warn_of_pixels
from tfcompress.distillation import Distiller
from tfcompress.graph.naming import names_of_outputs
from tfcompress.pipeline.checkpoints import Backup
from tfcompress.pipeline.distribution import ONE, Devices
from tfcompress.pipeline.losses import compiled_with, targets_like

USUAL_EPOCHS, LEAST_STEPS = 10, 400
"""Of a training that nobody gave a number of epochs."""

MOMENTUM = 0.9
"""Of batch normalization: Keras' .99 takes hundreds of steps to forget where it began; a training may have fewer."""

MOST_OUTPUTS = 1 << 20
"""Of the model that is made for data; more are numbers that are no classes."""

LARGE, WAVE = 48, 1024
"""Pixels from which such a model pools more often; values in a row, of a channel or two, that are a wave."""


def default_model(data: Dataset) -> keras.Model:
    """Return an untrained model for `data`: a small convolutional one for images and sound, else a dense one; logits.

    Those for rows of numbers and for sound begin with means and variances of the training data, which is gone through.

    Raises:
        ValueError: If the data has several inputs, inputs of no fixed size, one class, or more outputs than a small
            model has.
    """
    given = data.train.x
    if isinstance(data.train.y, Mapping) or isinstance(data.classes, Mapping):
        raise ValueError(
            "Expected data with one target, to make a small model for it. Received: targets by name. Make a model for "
            "them, and give that."
        )
    shape = () if isinstance(given, Mapping) else tuple(size for size in given.shape[1:] if size is not None)
    if isinstance(given, Mapping) or len(shape) + 1 < len(given.shape):
        raise ValueError(
            f"Expected data with one input of a fixed size, to make a small model for it. Received: {given}. Make a "
            "model for it, and give that."
        )
    outputs = data.classes or math.prod(size or 1 for size in data.train.y.shape[1:])
    if data.classes == 1:
        raise ValueError(f"Expected at least two classes to tell from each other. Received: one in {data.name}.")
    if outputs > MOST_OUTPUTS:
        raise ValueError(
            f"Expected at most {MOST_OUTPUTS:,} classes, numbered 0, 1, 2, ... Received: {outputs - 1} as the largest "
            "number. Number them anew, or take targets that aren't whole numbers for a regression."
        )
    inputs = keras.Input(shape, name="input")
    if len(shape) == 2 and shape[0] >= WAVE and shape[1] <= 2:
        x = _normalization(data, by_channel=False)(inputs)  # some recordings are a hundred times as loud as others
        for index, (filters, size, stride) in enumerate(((16, 32, 8), (32, 8, 4), (32, 8, 4))):
            x = layers.Conv1D(filters, size, stride, padding="same", use_bias=False, name=f"conv_{index}")(x)
            x = layers.BatchNormalization(momentum=MOMENTUM, name=f"norm_{index}")(x)
            x = layers.ReLU(name=f"relu_{index}")(x)
        x = layers.GlobalAveragePooling1D(name="mean")(x)
    elif len(shape) in (2, 3):
        x = layers.Reshape((*shape, 1))(inputs) if len(shape) == 2 else inputs
        for index, filters in enumerate((16, 32, 32)):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv_{index}")(x)
            x = layers.BatchNormalization(momentum=MOMENTUM, name=f"norm_{index}")(x)
            x = layers.ReLU(name=f"relu_{index}")(x)
            if min(x.shape[1:3]) >= (4 if index == 1 else LARGE):
                x = layers.MaxPooling2D(name="pool" if index == 1 else f"pool_{index}")(x)
        x = layers.Flatten(name="flat")(x)
    else:
        x = _normalization(data)(inputs) if len(shape) == 1 else layers.Flatten(name="flat")(inputs)
    x = layers.Dense(64, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(outputs, name="logits")(x), name=data.name)


def _normalization(data: Dataset, by_channel: bool = True) -> keras.layers.Normalization:
    """Return a layer that brings inputs to a mean of 0 and a variance of 1, as the training data says, batch by batch.

    Columns of 0 and 1 stay as they are: a category that is rare would become a large number.

    Args:
        data: Of rows, or of anything where all numbers are alike.
        by_channel: Whether each column has a mean and a variance of its own.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    for x, _ in pairs(data.train.in_order()):
        scaler.partial_fit(x if by_channel else np.reshape(x, (-1, 1)))
    mean, variance = scaler.mean_, scaler.scale_**2  # of a constant column 1
    switches = np.isclose(scaler.var_, mean * (1 - mean), rtol=1e-4, atol=1e-12)  # so it is of 0 and 1
    mean, variance = np.where(switches, 0.0, mean), np.where(switches, 1.0, variance)
    if not by_channel:
        return layers.Normalization(axis=None, mean=mean[0], variance=variance[0], name="normalization")
    return layers.Normalization(mean=mean, variance=variance, name="normalization")


def check_fits(model: keras.Model, data: Dataset) -> None:
    """Raise ValueError unless a model takes and gives what is in `data`: one of each, or inputs and outputs by name."""
    given = data.train.x
    several = (len(model.inputs) > 1 and not isinstance(given, Mapping)) or (
        len(model.outputs) > 1 and not isinstance(data.train.y, Mapping)
    )
    if several:
        raise ValueError(
            f"Expected a model with one input and one output. Received: {model.name!r} with {len(model.inputs)} and "
            f"{len(model.outputs)}. Give tfcompress.compress data in which they have their names, or train such a "
            "model in Python, with tfcompress.prune and model.fit."
        )
    if isinstance(given, Mapping):
        names = [x.name for x in model.inputs]
        if set(names) != set(given):
            raise ValueError(f"Expected data for the inputs {names}. Received: {list(given)}.")
        for x in model.inputs:
            _check_shape(f"input {x.name!r} with samples", tuple(x.shape[1:]), given[x.name].shape[1:])
    else:
        _check_shape("inputs with samples", tuple(model.inputs[0].shape[1:]), given.shape[1:])
    outputs = names_of_outputs(model)
    for name, output, target in zip(outputs, model.outputs, data.targets(outputs), strict=True):
        _check_target(tuple(output.shape[1:]), target, f" of output {name!r}" if len(outputs) > 1 else "")


def check_one_output(model: keras.Model) -> None:
    """Raise ValueError for a model with several outputs, where one metric is followed."""
    if len(model.outputs) != 1:
        raise ValueError(
            f"Expected a model with one output, whose metric is followed. Received: {model.name!r} with "
            f"{len(model.outputs)}. Make a model of one of them: keras.Model(model.inputs, model.outputs[0])."
        )


def _check_target(shape: tuple[int | None, ...], target: Target, of: str) -> None:
    """Raise ValueError unless targets are such as an output of a shape, without the samples, can have."""
    width = shape[-1] if shape else None
    if target.classes is None:
        _check_shape(f"targets{of}", shape, target.info.shape[1:] or (1,), ", as the model's output")
    named = 2 if width == 1 else width
    if target.class_names is not None and named not in (None, len(target.class_names)):
        raise ValueError(
            f"Expected {named} classes{of}, as the model has. Received: {len(target.class_names)}, named "
            f"{short(list(target.class_names))}. Give the data that the model was trained for."
        )
    if target.classes is not None and width not in (None, 1) and target.classes > width:
        raise ValueError(
            f"Expected classes{of} from 0 to {width - 1}, as the model has. Received: {target.classes - 1}."
        )


def _check_shape(what: str, wanted: tuple[int | None, ...], given: tuple[int | None, ...], why: str = "") -> None:
    """Raise ValueError unless sizes are those of the model, where it says them."""
    if len(wanted) != len(given) or any(w not in (None, g) for w, g in zip(wanted, given, strict=True)):
        raise ValueError(f"Expected {what} of shape {wanted}{why}. Received: {given}.")


def fit(
    model: keras.Model,
    data: Dataset,
    loss: Any,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    devices: Devices = ONE,
    backup: Backup | None = None,
) -> None:
    """Train in place with Adam, its rate falling as half a cosine to a hundredth; shuffled by numpy's seed.

    Of what `tfcompress.distill` made the student is trained. With a `backup`, in one process, it goes on where it was
    when it was killed, and ends as if it had not been.
    """
    judged = model.student if isinstance(model, Distiller) else model
    if devices is ONE:
        first = data.train.first(HEAD)
        warn_of_pixels(judged, [first[x.name] for x in judged.inputs] if isinstance(first, Mapping) else [first])
    in_epoch = steps_per_epoch(data, batch_size, devices)
    steps = epochs * in_epoch
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps, alpha=0.01)
    how: dict[str, Any] = {"verbose": 0, "callbacks": list(callbacks)}

    def run(there: keras.Model) -> None:
        there.compile(keras.optimizers.Adam(rate), **compiled_with(judged, data, loss))
        begun = skipped = 0
        if backup is not None and devices.processes == 1:
            begun = backup.restore(there)
            begun, skipped = divmod(begun * in_epoch + backup.batches, max(in_epoch, 1))
            how["callbacks"].append(backup)
        if data.validation is not None and devices.processes == 1:
            how["validation_data"] = targets_like(judged, data.validation).batches()
        parts = [(begun, begun + 1, skipped), (begun + 1, epochs, 0)] if skipped else [(begun, epochs, 0)]
        state = np.random.get_state()  # both draw their orders by the same numbers
        for first, last, done in parts:
            np.random.set_state(state)
            batches = devices.batches(targets_like(judged, data.train), batch_size, first, done)
            if data.train.endless:
                how["steps_per_epoch"] = in_epoch - done
            if first < last:
                with data.train.reading():
                    there.fit(batches, shuffle=False, initial_epoch=first, epochs=last, **how)

    devices.train(model, run)


def enough_epochs(steps: int) -> int:
    """Return the epochs of a training that nobody gave any: `USUAL_EPOCHS`, or as many as have `LEAST_STEPS`.

    Of a few hundred samples ten epochs are so few steps that a model which is pruned meanwhile doesn't recover.

    Args:
        steps: Of an epoch.

    >>> enough_epochs(45), enough_epochs(12)
    (10, 34)
    """
    return max(USUAL_EPOCHS, -(-LEAST_STEPS // max(steps, 1)))


def steps_per_epoch(data: Dataset, batch_size: int, devices: Devices = ONE) -> int:
    """Return how many batches an epoch has; several devices leave out an incomplete one."""
    samples = data.train.samples
    return samples // batch_size if devices is not ONE else -(-samples // batch_size)
