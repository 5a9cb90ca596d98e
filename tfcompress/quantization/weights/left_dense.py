"""A weight that is passed through, and why."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfcompress.core.transform import Encoded, WeightTransform

Tensor = Any


@keras.saving.register_keras_serializable(package="tfcompress")
class LeftDense(WeightTransform):
    """Leaves a weight as it is: it has fewer values than were asked for.

    It stands in the model, so that the summary of a saved and loaded one, too, says why the kernel has no codebook.

    Args:
        reason: For a reader of the summary.

    Example:

    >>> LeftDense("10 weights, fewer than 16 values").apply(1.5)
    1.5
    """

    def __init__(self, reason: str):
        self.reason = str(reason)

    def apply(self, value: Tensor) -> Tensor:
        """Return the value itself."""
        return value

    def encode(self, value: np.ndarray | Encoded) -> np.ndarray | Encoded:
        """Return the value itself."""
        return value

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"reason": self.reason}
