"""One way to train the networks of either Keras, on the same batches."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import data


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a network is trained.

    Attributes:
        epochs: Times through the samples.
        rate: Adam's at the beginning; it falls to 0 along half a cosine.
        seed: Of the samples' order and of the augmentation.
        batch_size: Samples in a batch; what remains of an epoch is left out.
        augment: Whether images are mirrored and shifted.
        weight_decay: Of AdamW (Loshchilov & Hutter, 2019), relative to the rate; 0 is Adam.
    """

    epochs: int
    rate: float
    seed: int
    batch_size: int = 128
    augment: bool = False
    weight_decay: float = 0.0

    def steps(self, train: data.Arrays) -> int:
        """Return the steps of an epoch."""
        return len(train[0]) // self.batch_size


def fit(
    how: Fit,
    module: Any,
    model: Any,
    train: data.Arrays,
    scaled: Callable[[np.ndarray], np.ndarray] = lambda x: x,
    *,
    callbacks: Sequence[Any] = (),
) -> float:
    """Train a model of either Keras.

    Args:
        how: For how long, how fast, in which order.
        module: `keras` or `tf_keras`.
        model: With logits of classes out.
        train: Images, uint8, and labels.
        scaled: What is done to the pixels, float32, first.
        callbacks: That `fit` needs.

    Returns:
        The seconds of all processors in an epoch.
    """
    import tensorflow as tf

    def batches() -> Iterator[data.Arrays]:
        made = data.shuffled(*train, batch_size=how.batch_size, epochs=how.epochs, seed=how.seed, augment=how.augment)
        return ((scaled(x), y) for x, y in made)

    specs = tf.TensorSpec((how.batch_size, *train[0].shape[1:]), tf.float32), tf.TensorSpec((how.batch_size,), tf.int32)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=specs).prefetch(4)
    schedule = module.optimizers.schedules.CosineDecay(how.rate, how.epochs * how.steps(train))
    loss = module.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = module.optimizers.AdamW(schedule, weight_decay=how.weight_decay)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    begun = time.process_time()
    model.fit(
        dataset, epochs=how.epochs, steps_per_epoch=how.steps(train), verbose=2, callbacks=list(callbacks) or None
    )
    return (time.process_time() - begun) / how.epochs
