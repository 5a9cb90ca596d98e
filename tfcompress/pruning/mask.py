"""The weight transform of pruning: a mask, computed anew on schedule."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from tfcompress.pruning.config import PruneConfig
from tfcompress.pruning.criteria import CRITERIA
from tfcompress.pruning.selection import keep_count, largest
from tfcompress.transform import WeightTransform

Tensor = Any


@keras.saving.register_keras_serializable(package="tfcompress")
class Mask(WeightTransform):
    """Multiplies a weight by a mask of zeros and ones.

    The gradient passes where the mask is one. After each optimizer update the weight itself is multiplied
    (TensorFlow), so that it is really sparse at the end of every batch.

    Args:
        config: What is pruned and when.
        group: With scope "global", the name that all masks with one common budget share.
        group_size: How many these are: a part of them, in a part of the model, is left as it is.
    """

    def __init__(self, config: PruneConfig, group: str | None = None, group_size: int = 1):
        self.config = config
        self.group = group
        self.group_size = group_size

    def build(self, weight: keras.Variable, add_state: Callable[..., keras.Variable]) -> None:
        """Create the mask, all ones."""
        self.mask = add_state("mask", weight.shape, "bool", "ones")

    def apply(self, value: Tensor) -> Tensor:
        """Return `value` where the mask is one, else 0."""
        return ops.where(ops.convert_to_tensor(self.mask.value), value, ops.zeros((), value.dtype))

    def project(self, value: Tensor) -> Tensor:
        """Return the masked value: what is pruned is zero."""
        return self.apply(value)

    @classmethod
    def update(cls, members: Sequence[tuple[WeightTransform, Tensor]], step: Tensor) -> None:
        """Compute the masks of one group anew if the schedule says so at `step`."""
        masks = [member for member, _ in members if isinstance(member, Mask)]
        if len(masks) < masks[0].group_size:
            warnings.warn(
                f"Expected all {masks[0].group_size} weights that are pruned with one common budget to be in the model "
                f"that is trained. Received: {len(masks)} of them; their masks stay as they are.",
                stacklevel=2,
            )
            return
        values = [value for _, value in members]
        due, sparsity = masks[0].config.schedule(step)
        previous = [ops.convert_to_tensor(mask.mask.value) for mask in masks]
        # The assignment stays outside of the condition: inside, a mirrored variable could not be assigned.
        chosen = ops.cond(due, lambda: cls.select(masks, values, sparsity), lambda: previous)
        for mask, value in zip(masks, chosen, strict=True):
            mask.mask.assign(value)

    @staticmethod
    def select(masks: Sequence[Mask], values: Sequence[Tensor], sparsity: Tensor) -> list[Tensor]:
        """Return the masks that keep the most important of all values at `sparsity`.

        What is pruned now counts as zero, also on JAX, where the weight under the mask is not.
        """
        config = masks[0].config
        criterion = CRITERIA[config.criterion]
        scores = [criterion(mask.apply(value)) for mask, value in zip(masks, values, strict=True)]
        size = sum(math.prod(mask.mask.shape) for mask in masks)
        return largest(scores, keep_count(size, sparsity))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"config": self.config.to_dict(), "group": self.group, "group_size": self.group_size}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Mask:
        """Make a mask, all ones, from `get_config`'s result."""
        return cls(**{**config, "config": PruneConfig.from_dict(config["config"])})
