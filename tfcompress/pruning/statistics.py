"""What criteria look at beside the weight itself, and how it is gathered while a model is trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from keras import ops

Tensor = Any

DECAY = 0.98
"""What is left of a statistic after one training step; what is gathered from data beforehand is summed instead."""


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What is known of one weight; a field is `None` unless the criterion names it in its `needs`.

    Attributes:
        gradient: dL/dw, summed over batches, in the shape of the weight.
        sensitivity: |w * dL/dw|, summed over batches, in the shape of the weight.
        movement: -w * dL/dw, summed over batches, in the shape of the weight; above 0 where training moves the weight
            away from 0.
        activation_frequency: Share of positions and samples at which each output of the weight's layer is above 0,
            broadcast to the weight.
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


def masked(value: Tensor, mask: Tensor, statistics: Mapping[str, Tensor], decay: float = DECAY) -> Tensor:
    """Return `value` where the mask is one, else 0; its gradient carries the statistics of the weight.

    A statistic is a trainable variable of Keras' kind that is overwritten with its gradient, as the scales of float8
    training are: the "gradient" given to it is its new value. So it is kept on every backend, by every optimizer.

    Args:
        value: The weight, of any float dtype.
        mask: bool, in the shape of `value`.
        statistics: What each statistic (a key of `GATHERED`) is now, float32 in the shape of `value`.
        decay: What is left of the old value in a step.

    Returns:
        A tensor like `value`.
    """
    names = tuple(statistics)

    @ops.custom_gradient
    def function(value: Tensor, kept: Tensor, *old: Tensor) -> Any:
        def gradient(*arguments: Tensor, upstream: Tensor = None) -> tuple[Tensor, ...]:
            dense = arguments[0] if upstream is None else upstream
            weight, slope = ops.cast(value, "float32"), ops.cast(dense, "float32")
            new = [decay * before + GATHERED[name](weight, slope) for name, before in zip(names, old, strict=True)]
            return (ops.where(kept > 0, dense, ops.zeros_like(dense)), ops.zeros_like(kept), *new)

        return ops.where(kept > 0, value, ops.zeros_like(value)), gradient

    return function(value, ops.cast(mask, "float32"), *statistics.values())
