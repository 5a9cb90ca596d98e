"""Layers that say themselves what is pruned of them."""

from __future__ import annotations

import abc
from typing import Any


class PrunableLayer(abc.ABC):
    """What a layer of one's own is made of, beside a Keras layer, to say which of its weights are pruned.

    Example:

    >>> import keras
    >>> class WithBias(keras.layers.Dense, PrunableLayer):
    ...     def get_prunable_weights(self):
    ...         return [self.kernel, self.bias]
    """

    @abc.abstractmethod
    def get_prunable_weights(self) -> list[Any]:
        """Return the weights that are pruned, each by itself."""
