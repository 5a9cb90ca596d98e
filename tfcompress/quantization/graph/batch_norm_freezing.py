"""Batch normalization that uses, and no longer moves, its statistics from a given training step on."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfcompress.core.keras_private import context_of_its_own
from tfcompress.core.passthrough import PassThrough
from tfcompress.core.replicas import mean_over_replicas


@keras.saving.register_keras_serializable(package="tfcompress")
class FreezingBatchNorm(PassThrough):
    """Calls a batch normalization as in training up to a step, as in inference from then on.

    Args:
        layer: The batch normalization.
        freeze_step: The training step from which its statistics stay.

    Example:

    >>> import keras, numpy as np
    >>> inner = keras.layers.BatchNormalization()
    >>> inner.build((None, 1))
    >>> layer = FreezingBatchNorm(inner, freeze_step=0)
    >>> y = layer(np.array([[3.0], [5.0]]), training=True)
    >>> float(layer.layer.moving_mean[0])
    0.0
    """

    temporary = True
    own_arguments = ("freeze_step",)

    def __init__(self, layer: keras.layers.Layer, freeze_step: int, **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.freeze_step = int(freeze_step)

    def build(self, input_shape: Any = None) -> None:
        """Create the count of steps."""
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )
        self.built = True

    def call(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Call the layer."""
        if not training:
            with context_of_its_own():
                return self.layer(inputs, *args, training=False, **kwargs)
        statistics = (self.layer.moving_mean, self.layer.moving_variance)
        before = [ops.copy(variable.value) for variable in statistics]
        step = ops.convert_to_tensor(self.step.value)
        frozen = step >= self.freeze_step
        with context_of_its_own():
            still = self.layer(inputs, *args, training=False, **kwargs)
            moving = self.layer(inputs, *args, training=True, **kwargs)
        # Keras lets each replica of `tf.distribute` move statistics of its own, to NaN without samples; frozen ones
        # must be the same.
        both = ops.stack([ops.convert_to_tensor(variable.value) for variable in statistics])
        moved = mean_over_replicas(both, ops.shape(inputs)[0])
        for index, (variable, old) in enumerate(zip(statistics, before, strict=True)):
            variable.assign(ops.where(frozen, old, moved[index]))
        self.step.assign(step + 1)
        return ops.where(frozen, still, moving)
