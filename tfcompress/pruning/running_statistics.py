"""What criteria look at beside the weight itself, and how it is gathered while a model is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from tfcompress.core.replicas import sum_over_replicas

Tensor = Any

DECAY = 0.98
"""What is left of a statistic after one training step."""


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What is known of one weight; a field is `None` unless the criterion names it in its `needs`.

    Attributes:
        gradient: dL/dw in the shape of the weight: of the mean loss on all of the data that it is gathered from
            beforehand, or summed over the batches of training. (On JAX that of the scaled loss, where the optimizer
            scales it.)
        sensitivity: |w * dL/dw|, alike. (Of a layer that is called several times dL/dw is that of all calls.)
        movement: -w * dL/dw, alike; above 0 where training moves the weight away from 0.
        activation_frequency: Share of positions and samples at which each output of the weight's layer is above 0
            behind its activation, broadcast to the weight.
        scale: Scale (gamma) of the batch normalization behind the weight's layer, broadcast to the weight.
        seed: A whole number, another one for each weight.
    """

    gradient: Tensor | None = None
    sensitivity: Tensor | None = None
    movement: Tensor | None = None
    activation_frequency: Tensor | None = None
    scale: Tensor | None = None
    seed: int = 0


GATHERED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradient": lambda weight, gradient: gradient,
    "sensitivity": lambda weight, gradient: ops.abs(weight * gradient),
    "movement": lambda weight, gradient: -weight * gradient,
}
"""By the name of a statistic: what one training step adds to it, of a weight and its gradient (float32)."""

NEEDS = (*GATHERED, "activation_frequency", "scale")
"""All statistics that a criterion may need."""


class Gathering:
    """The statistics of one weight, gathered while a model is trained: each step adds to them what is new.

    The value that a layer sees has a gradient of its own, which knows dL/dw before it is masked. On TensorFlow it adds
    to the statistics as it is computed. JAX computes without side effects: there the news are trainable variables of
    Keras' kind that are overwritten with their gradient, as the scales of float8 training are, and are added one step
    later. (So with `gradient_accumulation_steps`, on JAX, Keras keeps the largest of a round instead of the sum.)

    Args:
        names: Of `GATHERED`.
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self.values: dict[str, keras.Variable] = {}
        self._news: dict[str, keras.Variable] = {}

    def build(self, shape: tuple[int, ...], add_state: Callable[..., keras.Variable]) -> None:
        """Create the statistics, all zeros; `add_state` is that of `WeightTransform.build`."""
        for name in self.names:
            self.values[name] = add_state(name, shape, "float32", "zeros")
            if keras.backend.backend() != "tensorflow":
                self._news[name] = add_state(f"new_{name}", shape, "float32", "zeros", overwrite_with_gradient=True)

    def watched(self, value: Tensor, mask: Tensor, scale: Tensor | None = None) -> Tensor:
        """Return `value` where the mask is one, else 0, with a gradient that adds to the statistics.

        Args:
            value: The weight, of any float dtype.
            mask: bool, in the shape of `value`.
            scale: What the loss is multiplied by, float32 scalar; `None`: nothing.
        """

        @ops.custom_gradient
        def function(value: Tensor, kept: Tensor, *old: Tensor) -> Any:
            def gradient(*arguments: Tensor, upstream: Tensor = None) -> tuple[Tensor, ...]:
                dense = arguments[0] if upstream is None else upstream
                slope = ops.cast(dense, "float32")
                slope = sum_over_replicas(slope if scale is None else slope / scale)
                # A step whose gradients aren't all finite is left out, as loss scaling does.
                slope = ops.where(ops.all(ops.isfinite(slope)), slope, ops.zeros_like(slope))
                news = [GATHERED[name](ops.cast(value, "float32"), slope) for name in self.names]
                if not self._news:
                    for name, new in zip(self.names, news, strict=True):
                        self.values[name].assign_add(new)
                    news = []
                return (ops.where(kept > 0, dense, ops.zeros_like(dense)), ops.zeros_like(kept), *news)

            return ops.where(kept > 0, value, ops.zeros_like(value)), gradient

        news = [ops.convert_to_tensor(variable.value) for variable in self._news.values()]
        return function(value, ops.cast(mask, "float32"), *news)

    def collect(self) -> None:
        """At the beginning of a step: add what is still to be added of the one before."""
        for name, new in self._news.items():
            self.values[name].assign(DECAY * self.values[name].value + new.value)

    def decay(self) -> None:
        """Before a step's gradients: let what is known count less."""
        if not self._news:
            for variable in self.values.values():
                variable.assign(DECAY * variable.value)

    def known(self) -> dict[str, Tensor]:
        """Return the statistics."""
        return {name: ops.copy(variable.value) for name, variable in self.values.items()}
