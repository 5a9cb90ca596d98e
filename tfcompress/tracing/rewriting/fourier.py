"""Fourier transforms of complex tensors, given as pairs of real ones, as products with matrices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

LONGEST = 4096
"""Samples of a transform: its matrices hold as many numbers, squared. Those of a free length are made at run time."""

Pair = tuple[Any, Any]


def transform(parts: Pair, lengths: Sequence[Any], axes: Sequence[int]) -> Pair | None:
    """Return the transform over some axes, each cut or padded to its length."""
    for length, axis in zip(lengths, axes, strict=True):
        moved = _along(parts, axis, functools.partial(_once, length=length, sign=-1))
        if moved is None:
            return None
        parts = moved
    return parts


def inverse(parts: Pair, lengths: Sequence[Any], axes: Sequence[int]) -> Pair | None:
    """Return the inverse transform over some axes, each cut or padded to its length."""
    for length, axis in zip(lengths, axes, strict=True):
        moved = _along(parts, axis, functools.partial(_once, length=length, sign=1))
        if moved is None:
            return None
        parts = (_divided(moved[0], length), _divided(moved[1], length))
    return parts


def of_real(x: Any, length: Any) -> Pair | None:
    """Return the first half of the transform of real numbers, over the last axis."""
    import tensorflow as tf

    if _too_long(length):
        return None
    x = _fitted(x, length)
    cosines, sines = _matrix(length, length // 2 + 1, length, -1)
    return tf.matmul(x, cosines), tf.matmul(x, sines)


def to_real(parts: Pair, length: Any) -> Any | None:
    """Return the real numbers of which `parts` is the first half of the transform, over the last axis."""
    import tensorflow as tf

    if _too_long(length):
        return None
    half = length // 2 + 1
    real, imaginary = (_fitted(x, half) for x in parts)
    cosines, sines = _matrix(half, length, length, 1)
    # Each but the first, and of an even length the last, stands for two that are conjugate.
    if isinstance(length, int):
        weights = np.full([half, 1], 2.0 / length, np.float32)
        weights[[0, -1] if length % 2 == 0 else [0]] = 1.0 / length
    else:
        places = tf.range(half)[:, None]
        single = tf.logical_or(tf.equal(places, 0), tf.equal(2 * places, length))
        weights = _divided(tf.where(single, 1.0, 2.0), length)
    return tf.matmul(real, cosines * weights) - tf.matmul(imaginary, sines * weights)


def _too_long(length: Any) -> bool:
    return isinstance(length, int) and not 0 < length <= LONGEST


def _along(parts: Pair, axis: int, do: Callable[[Pair], Pair | None]) -> Pair | None:
    """Do what works on the last axis along another."""
    import tensorflow as tf

    rank = parts[0].shape.rank
    axis %= rank
    if axis == rank - 1:
        return do(parts)
    order = [*range(rank)]
    order[axis], order[-1] = order[-1], order[axis]
    found = do((tf.transpose(parts[0], order), tf.transpose(parts[1], order)))
    return None if found is None else (tf.transpose(found[0], order), tf.transpose(found[1], order))


def _once(parts: Pair, length: Any, sign: int) -> Pair | None:
    import tensorflow as tf

    if _too_long(length):
        return None
    real, imaginary = (_fitted(x, length) for x in parts)
    cosines, sines = _matrix(length, length, length, sign)
    return (
        tf.matmul(real, cosines) - tf.matmul(imaginary, sines),
        tf.matmul(real, sines) + tf.matmul(imaginary, cosines),
    )


def _matrix(rows: Any, columns: Any, period: Any, sign: int) -> Pair:
    import tensorflow as tf

    if isinstance(period, int):
        turns = np.outer(np.arange(rows), np.arange(columns)) % period / period
        angles = sign * 2 * np.pi * turns
        return tf.constant(np.cos(angles).astype("float32")), tf.constant(np.sin(angles).astype("float32"))
    turned = tf.math.floormod(tf.range(rows)[:, None] * tf.range(columns)[None, :], period)
    angle = _divided(sign * 2 * np.pi * tf.cast(turned, tf.float32), period)
    return tf.cos(angle), tf.sin(angle)


def _divided(x: Any, length: Any) -> Any:
    import tensorflow as tf

    return x / (length if isinstance(length, int) else tf.cast(length, tf.float32))


def _fitted(x: Any, length: Any) -> Any:
    """Return the first `length` entries along the last axis, zeros behind where there are fewer."""
    import tensorflow as tf

    known = x.shape[-1]
    fixed = isinstance(length, int) and known is not None
    if fixed and known == length:
        return x
    if not fixed or known > length:
        x = x[..., :length]
    if fixed and known > length:
        return x
    missing = length - (known if fixed else tf.shape(x)[-1])
    return tf.pad(x, [[0, 0]] * (x.shape.rank - 1) + [[0, missing]])
