"""Which layers of a model are pruned, as tfmot's policies say it."""

from __future__ import annotations

import abc
from typing import Any

import keras

from tfcompress.pruning.xnnpack import xnnpack_prunable


class PruningPolicy(abc.ABC):
    """Says of each layer of a model whether it is pruned, and refuses models that it isn't for."""

    @abc.abstractmethod
    def allow_pruning(self, layer: Any) -> bool:
        """Return whether a layer is pruned."""

    @abc.abstractmethod
    def ensure_model_supports_pruning(self, model: Any) -> None:
        """Raise ValueError if the policy isn't for this model."""


class PruneForLatencyOnXNNPack(PruningPolicy):
    """Prunes the 1x1 convolutions of a model that XNNPACK can compute sparsely.

    As tfmot's, it means all 1x1 convolutions; `tfcompress.xnnpack_prunable(model)` finds those of them that get faster.
    """

    def allow_pruning(self, layer: Any) -> bool:
        """Return whether a layer is a 1x1 convolution."""
        return isinstance(layer, keras.layers.Conv2D) and tuple(layer.kernel_size) == (1, 1)

    def ensure_model_supports_pruning(self, model: Any) -> None:
        """Raise ValueError, with the operation, if XNNPACK can't compute a model sparsely."""
        xnnpack_prunable(model)


def for_keras2(policy: Any, original: Any) -> Any:
    """Return a policy for tfmot itself, which knows layers of tf_keras; arguments as of that of schedules."""
    if isinstance(policy, PruneForLatencyOnXNNPack):
        return original.sparsity.keras.PruneForLatencyOnXNNPack()
    return policy
