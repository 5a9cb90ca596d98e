"""Masks that are given: what is zero stays zero while a model is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfcompress.core.arguments import check_model
from tfcompress.core.transform import read
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import inner_weights, with_transforms
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


def keep_zeros(model: keras.Model) -> keras.Model:
    """Return a copy of a pruned and stripped model whose zeros stay zero in training.

    After `tfc.strip`, or in a file that another tool pruned, a zero is a weight like any other: training changes it,
    also training behind `tfc.quantize`. A model that `tfc.prune` wrapped keeps its masks and needs no `keep_zeros`.

    Args:
        model: A built model. Kernels that have a mask keep it; those without a zero, or with nothing but zeros, are
            left as they are.

    Returns:
        The copy; `tfc.quantize` and `tfc.cluster` take it, `tfc.strip` takes the masks off.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it isn't built.

    Example:

    >>> import tfcompress as tfc
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model = tfc.keep_zeros(tfc.prune_once(model, 0.75))
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0)
    >>> tfc.sparsity(model)
    0.75
    """
    check_model(model)
    return with_masks(model, lambda layer, position: read(inner_weights(layer)[position]) != 0)
