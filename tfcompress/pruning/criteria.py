"""How important a weight is: pure functions from a weight, and what is known of it, to scores of its shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfcompress.pruning.running_statistics import NEEDS, Statistics

Tensor = Any
Criterion = Callable[[Tensor, Statistics], Tensor]


def needs(*statistics: str) -> Callable[[Criterion], Criterion]:
    """Say which fields of `Statistics` a criterion looks at, so that they are gathered.

    Args:
        *statistics: Of "gradient", "sensitivity", "movement", "activation_frequency" and "scale".

    Raises:
        ValueError: If a name is none of these.

    Example:

    >>> import keras
    >>> @keras.saving.register_keras_serializable("mine")
    ... @needs("gradient")
    ... def size_and_slope(weights, statistics):
    ...     return abs(weights) + abs(statistics.gradient)
    >>> size_and_slope.needs
    ('gradient',)
    """
    unknown = [name for name in statistics if name not in NEEDS]
    if unknown:
        raise ValueError(f"Expected statistics among {', '.join(map(repr, NEEDS))}. Received: {unknown[0]!r}.")

    def mark(criterion: Criterion) -> Criterion:
        criterion.needs = statistics  # type: ignore[attr-defined]
        return criterion

    return mark


def magnitude(weights: Tensor, statistics: Statistics = Statistics()) -> Tensor:  # noqa: B008
    """Return |w|, float32: the smallest weights matter least (Han et al., 2015). Of several weights the mean (L1).

    Example:

    >>> import numpy as np
    >>> np.asarray(magnitude(np.array([-2.0, 1.0], "float32"))).tolist()
    [2.0, 1.0]
    """
    return ops.abs(ops.cast(weights, "float32"))


def squared_magnitude(weights: Tensor, statistics: Statistics = Statistics()) -> Tensor:  # noqa: B008
    """Return w^2, float32, whose mean over several weights is in the order of their L2 norm (Li et al., 2017)."""
    return ops.square(ops.cast(weights, "float32"))


@needs("sensitivity")
def sensitivity(weights: Tensor, statistics: Statistics) -> Tensor:
    """Return |w * dL/dw| of all batches so far: what the loss changes by, to first order, if the weight is zero.

    Before training it is SNIP (Lee et al., 2019), in training Molchanov's Taylor criterion (2017).
    """
    return statistics.sensitivity


@needs("movement")
def movement(weights: Tensor, statistics: Statistics) -> Tensor:
    """Return -w * dL/dw of all batches so far: weights that shrink matter least (Sanh et al., 2020)."""
    return statistics.movement


@needs("activation_frequency")
def activation_frequency(weights: Tensor, statistics: Statistics) -> Tensor:
    """Return how often a weight's unit fires on real data (1 - APoZ of Hu et al., 2016)."""
    return ops.broadcast_to(statistics.activation_frequency, ops.shape(weights))


@needs("scale")
def batch_norm_scale(weights: Tensor, statistics: Statistics) -> Tensor:
    """Return |gamma| of the batch normalization behind a channel (network slimming, Liu et al., 2017)."""
    return ops.broadcast_to(ops.abs(statistics.scale), ops.shape(weights))


def random(weights: Tensor, statistics: Statistics) -> Tensor:
    """Return numbers drawn uniformly, the same in each call: the baseline for every other criterion."""
    return keras.random.uniform(ops.shape(weights), seed=statistics.seed)


CRITERIA: dict[str, Criterion] = {
    "magnitude": magnitude,
    "l2": squared_magnitude,
    "threshold": magnitude,
    "gradient": sensitivity,
    "movement": movement,
    "activation_frequency": activation_frequency,
    "bn_scale": batch_norm_scale,
    "random": random,
}
"""By the name in a `PruneConfig`."""


RELATIVE = ("magnitude", "l2", "gradient", "movement")
"""Criteria that say which channels of a layer matter, in a scale that is each layer's own."""


def criterion_of(name: str | Criterion) -> Criterion:
    """Return the function of a name, or the function itself."""
    return CRITERIA[name] if isinstance(name, str) else name


def needs_of(name: str | Criterion) -> tuple[str, ...]:
    """Return the statistics that a criterion looks at."""
    return tuple(getattr(criterion_of(name), "needs", ()))
