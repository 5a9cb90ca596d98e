"""Masks that are given: what is zero stays zero while a model is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import with_transforms
from tfcompress.graph import kernel_positions, rebuild
from tfcompress.pruning.mask import Mask
from tfcompress.pruning.prune_config import PruneConfig
from tfcompress.pruning.schedules import ConstantSparsity
from tfcompress.pruning.schedules.base import NEVER


def with_masks(model: keras.Model, kept: Callable[[Any, int], np.ndarray | None]) -> keras.Model:
    """Return a copy of a model whose kernels have masks that never change.

    Args:
        model: A built model. Kernels that have a mask keep it.
        kept: A function from a layer and the position of one of its kernels to what is kept of it, or `None` for all.
            Where all or nothing is kept, there is no mask.
    """
    masks: list[tuple[Mask, np.ndarray]] = []

    def wrap(layer: Any) -> Any:
        if isinstance(layer, CompressedLayer) and any(isinstance(t, Mask) for _, t in layer.transforms):
            return layer
        found = []
        for position in kernel_positions(layer):
            mask = kept(layer, position)
            if mask is not None and mask.any() and not mask.all():
                found.append((position, fixed_mask(mask)))
                masks.append((found[-1][1], mask))
        return with_transforms(layer, found) if found else layer

    copy = rebuild(model, wrap)
    for transform, mask in masks:
        transform.mask.assign(mask)
    return copy


def fixed_mask(kept: np.ndarray) -> Mask:
    """Return a mask, still all ones, that never changes; `kept` is what it is to be."""
    return Mask(PruneConfig(ConstantSparsity(float(1 - kept.mean()), begin_step=NEVER)))
