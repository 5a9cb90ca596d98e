"""The trainings of a recipe: how long, with which loss, and from which seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.data.dataset import Dataset
from tfcompress.distillation import distill
from tfcompress.pipeline.checkpoints import Backup
from tfcompress.pipeline.training import enough_epochs, fit, steps_per_epoch
from tfcompress.quantization import reestimate_batch_norm
from tfcompress.recipes.steps import Cluster, Distill, Prune, Quantize, Step, Training
from tfcompress.recipes.written_configs import whole_sparsity

STATISTICS = 4096
"""Samples of the training data, for statistics of batch normalization."""


def epochs_of(step: Training, data: Dataset) -> int:
    """Return the epochs of a training."""
    return step.epochs or enough_epochs(steps_per_epoch(data, step.batch_size))


def seed_of(seed: int, place: int) -> int:
    """Return the seed of a step, from the recipe's: another for each.

    >>> seed_of(0, 1) == seed_of(0, 1), seed_of(0, 1) == seed_of(0, 2)
    (True, False)
    """
    return int(np.random.SeedSequence((seed, place)).generate_state(1)[0])


def train(
    step: Training,
    model: keras.Model,
    teacher: keras.Model,
    data: Dataset,
    loss: Any,
    *,
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback],
    backup: Backup,
) -> None:
    """Train a model in place.

    Args:
        step: How.
        model: A model of its own.
        teacher: What it learns from, if it is distilled.
        data: To train with.
        loss: On the targets.
        seed: Of dropout and the like: a file of a model has no state of these, so that it begins anew.
        callbacks: For `fit`.
        backup: Where it goes on if it was killed.
    """
    weights = {id(variable) for variable in model.weights}
    for place, variable in enumerate(model.variables):
        if id(variable) not in weights and tuple(variable.shape) == (2,) and "seed" in variable.path:
            variable.assign(np.array([seed, place], keras.backend.standardize_dtype(variable.dtype)))
    trained = distill(model, teacher, step.temperature, step.alpha) if isinstance(step, Distill) else model
    fit(
        trained,
        data,
        loss,
        epochs=epochs_of(step, data),
        batch_size=step.batch_size,
        learning_rate=step.learning_rate,
        callbacks=callbacks,
        backup=backup,
    )
    if step.reestimate_batch_norm:
        reestimate_batch_norm(model, data.train.drawn(STATISTICS, seed), batch_size=step.batch_size)


def said(step: Training, before: Sequence[Step], made: bool) -> str:
    """Return what a training is called in what is shown.

    Args:
        step: The training.
        before: The steps in front of it.
        made: Whether the model was made for the data, and hasn't been trained yet.
    """
    since: list[Step] = []
    for one in reversed(before):
        if isinstance(one, Training):
            break
        since.append(one)
    last = next((one for one in since if isinstance(one, Prune | Cluster | Quantize)), None)
    if isinstance(last, Quantize):
        text = "train quantized"
    elif isinstance(last, Cluster):
        text = "cluster and fine-tune"
    elif isinstance(last, Prune):
        share = whole_sparsity(last.config)
        text = f"prune{'' if share is None else f' to {share:.0%}'} and fine-tune"
    else:
        text = "train" if made and not any(isinstance(one, Training) for one in before) else "fine-tune"
    return f"{text}, distilled" if isinstance(step, Distill) else text
