"""Which of the scores are kept: exact selection of the k largest, by partition on the bits of a float."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

Tensor = Any


def keep_count(size: int, sparsity: Tensor) -> Tensor:
    """Return how many of `size` weights are kept, int32: `max(round(size * (1 - sparsity)), 1)`, as tfmot does."""
    kept = ops.round(float(size) * (1.0 - ops.cast(sparsity, "float32")))
    return ops.cast(ops.maximum(kept, 1.0), "int32")


def _count(bits: Sequence[Tensor], least: Tensor) -> Tensor:
    return sum(ops.sum(ops.cast(part >= least, "int32")) for part in bits)


def kth_largest_bits(bits: Sequence[Tensor], k: Tensor) -> Tensor:
    """Return the k-th largest of all values (int32, not negative), built bit by bit: 31 counts, no sort.

    Args:
        bits: int32 tensors of any shapes.
        k: int32 scalar, from 1 to the number of values.
    """

    def try_bit(place: Tensor, found: Tensor) -> Tensor:
        candidate = found + ops.left_shift(1, 30 - place)
        return ops.where(_count(bits, candidate) >= k, candidate, found)

    return ops.fori_loop(0, 31, try_bit, ops.convert_to_tensor(0, "int32"))


def largest(scores: Sequence[Tensor], k: Tensor) -> list[Tensor]:
    """Return masks of exactly the `k` largest of all scores; of equal ones those that come first.

    Args:
        scores: Tensors of any shapes, not negative; compared as float32.
        k: int32 scalar, from 1 to the number of scores.

    Returns:
        One bool tensor for each of `scores`, in its shape.

    Example:

    >>> import numpy as np
    >>> mask, = largest([np.array([0.3, 0.1, 0.3, 0.3], "float32")], 2)
    >>> np.asarray(mask).tolist()
    [True, False, True, False]
    """
    # Floats that are not negative have the order of their bits, read as integers.
    bits = [ops.view(ops.abs(ops.cast(part, "float32")), "int32") for part in scores]
    k = ops.cast(k, "int32")
    threshold = kth_largest_bits(bits, k)

    def without_ties() -> list[Tensor]:
        return [part >= threshold for part in bits]

    def with_ties() -> list[Tensor]:
        room = k - _count(bits, threshold + 1)
        masks = []
        for part in bits:
            tied = ops.equal(part, threshold)
            place = ops.reshape(ops.cumsum(ops.cast(ops.reshape(tied, (-1,)), "int32")), part.shape)
            masks.append(ops.logical_or(part > threshold, ops.logical_and(tied, place <= room)))
            room = ops.maximum(room - ops.sum(ops.cast(tied, "int32")), 0)
        return masks

    return list(ops.cond(ops.equal(_count(bits, threshold), k), without_ties, with_ties))
