"""Which of the scores are kept: exact selection of the largest, by partition on the bits of a float."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

Tensor = Any

_LOWEST = -(1 << 31)
_PIECE = 1 << 20
"""Scores that are counted at once."""


def in_turn(parts: Sequence[Callable[[], Tensor]]) -> list[Tensor]:
    """Return what each of `parts` makes, one after the other: TensorFlow would hold the temporaries of all at once."""
    if keras.backend.backend() != "tensorflow" or len(parts) == 1:
        return [part() for part in parts]
    import tensorflow as tf

    made: list[Tensor] = []
    for part in parts:
        with tf.control_dependencies(made[-1:]):
            made.append(part())
    return made


def keep_count(size: int, sparsity: Tensor) -> Tensor:
    """Return how many of `size` weights are kept, int32: `max(round(size * (1 - sparsity)), 1)`, as tfmot does."""
    kept = ops.round(float(size) * (1.0 - ops.cast(sparsity, "float32")))
    return ops.cast(ops.maximum(kept, 1.0), "int32")


def sortable(scores: Tensor) -> Tensor:
    """Return int32 numbers in the order of the scores, which are compared as float32; int32 ones as they are."""
    if keras.backend.standardize_dtype(scores.dtype) == "int32":
        return scores
    bits = ops.view(ops.cast(scores, "float32"), "int32")
    # Floats that are not negative have the order of their bits, read as integers. Of negative ones the bits after the
    # sign are turned around; one more makes -0 the same as 0.
    turned = ops.bitwise_xor(bits, ops.bitwise_and(ops.right_shift(bits, 31), 0x7FFFFFFF))
    return turned - ops.right_shift(turned, 31)


def threshold(cost: Callable[[Tensor], Tensor], budget: Tensor) -> Tensor:
    """Return the largest int32 t whose cost is at least `budget`, built bit by bit: 32 costs, no sort.

    Args:
        cost: `cost(t)` of keeping what is at least `t`; it falls as `t` rises.
        budget: What is to be reached, in the dtype of the costs.
    """

    def try_bit(place: Tensor, found: Tensor) -> Tensor:
        candidate = found + ops.left_shift(1, 30 - place)
        return ops.where(cost(candidate) >= budget, candidate, found)

    zero = ops.convert_to_tensor(0, "int32")
    found = ops.where(cost(zero) >= budget, zero, ops.convert_to_tensor(_LOWEST, "int32"))
    return ops.fori_loop(0, 31, try_bit, found)


def _is_large(part: Tensor) -> bool:
    return None not in part.shape and math.prod(part.shape) > _PIECE


def _pieces(part: Tensor) -> list[Tensor]:
    """Return a tensor in pieces, so that what is made to count it is small."""
    if not _is_large(part):
        return [part]
    size = math.prod(part.shape)
    flat = ops.reshape(part, (-1,))
    return [flat[start : start + _PIECE] for start in range(0, size, _PIECE)]


def _count(part: Tensor, least: Tensor) -> Tensor:
    return ops.sum(ops.cast(part >= least, "int32"))


def largest(scores: Sequence[Tensor], budget: Tensor, costs: Sequence[float] | None = None) -> list[Tensor]:
    """Return masks of the largest of all scores; of equal ones those that come first.

    Args:
        scores: Tensors of any shapes, compared as float32; or what `sortable` made of them.
        budget: int32 scalar: how many are kept, exactly. With `costs` a float32 scalar: what they may cost.
        costs: What keeping one score of each tensor costs; None: 1 each.

    Returns:
        One bool tensor for each of `scores`, in its shape.

    Example:

    >>> import numpy as np
    >>> mask, = largest([np.array([0.3, 0.1, 0.3, 0.3], "float32")], 2)
    >>> np.asarray(mask).tolist()
    [True, False, True, False]
    """
    bits = [sortable(part) for part in scores]
    if keras.backend.backend() != "tensorflow" or len(bits) > 1 or costs is not None or _is_large(bits[0]):
        return _largest(bits, budget, costs)
    flat = _traced_once()(ops.reshape(bits[0], (-1,)), ops.cast(budget, "int32"))
    return [ops.reshape(flat, bits[0].shape)]


@functools.cache
def _traced_once() -> Callable[[Tensor, Tensor], Tensor]:
    """Return `largest` of one flat tensor as a function of TensorFlow's.

    It is traced once in a process: to trace it for each weight anew is half of what tracing a pruned model's training
    takes.
    """
    import tensorflow as tf

    def one(bits: Tensor, budget: Tensor) -> Tensor:
        return _largest([bits], budget)[0]

    signature = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32)]
    return tf.function(one, input_signature=signature, autograph=False)


def _largest(bits: Sequence[Tensor], budget: Tensor, costs: Sequence[float] | None = None) -> list[Tensor]:
    """Return what `largest` does, of what `sortable` made of the scores."""
    dtype = "int32" if costs is None else "float32"
    each = [1] * len(bits) if costs is None else [float(cost) for cost in costs]
    budget = ops.cast(budget, dtype)
    pieces = [(piece, one) for part, one in zip(bits, each, strict=True) for piece in _pieces(part)]

    def cost(least: Tensor) -> Tensor:
        counts = in_turn([partial(_count, piece, least) for piece, _ in pieces])
        return sum(one * ops.cast(count, dtype) for count, (_, one) in zip(counts, pieces, strict=True))

    least = threshold(cost, budget)

    def without_ties() -> list[Tensor]:
        return [part >= least for part in bits]

    def with_ties() -> list[Tensor]:
        room = budget - cost(least + 1)
        masks = []
        for part, one in zip(bits, each, strict=True):
            tied = ops.equal(part, least)
            fits = room if costs is None else ops.cast(ops.floor(room / one), "int32")
            place = ops.reshape(ops.cumsum(ops.cast(ops.reshape(tied, (-1,)), "int32")), ops.shape(part))
            masks.append(ops.logical_or(part > least, ops.logical_and(tied, place <= fits)))
            taken = ops.minimum(ops.sum(ops.cast(tied, "int32")), ops.maximum(fits, 0))
            room = room - one * ops.cast(taken, dtype)
        return masks

    return list(ops.cond(ops.equal(cost(least), budget), without_ties, with_ties))
