"""Multiplication of whole numbers by a real number in integers: an integer and a shift, as TFLite's kernels have it.

The integers have 64 bits, and numbers are taken apart into their bits: this is TensorFlow's, which runtimes that take
TFLite files are compared on. What an integer LSTM computes between its gates is in `numerics.lstm_step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfcompress.quantization.numerics import tensorflow_kernels

Tensor = Any

Multiplier = tuple[Tensor, Tensor]
"""The integer, of 31 bits, and the shift of a factor: int64."""

_EXPONENT, _HALF = 0x7FF << 52, 1022 << 52
"""The bits of a float64's exponent, and those for numbers from 0.5 up to 1."""


def multiplier_of(factor: Tensor) -> Multiplier:
    """Return the integer and the shift that stand for a factor: about integer * 2^(shift - 31).

    Args:
        factor: float64, above 0, of any shape.

    Example:

    >>> import tensorflow as tf
    >>> [int(x) for x in multiplier_of(tf.constant(0.25, tf.float64))]
    [1073741824, -1]
    """
    import tensorflow as tf

    bits = tf.bitcast(factor, tf.int64)
    shift = right(tf.bitwise.bitwise_and(bits, _EXPONENT), 52) - 1022
    fraction = tf.bitcast(tf.bitwise.bitwise_or(tf.bitwise.bitwise_and(bits, ~_EXPONENT), _HALF), tf.float64)
    integer = tf.cast(tf.floor(fraction * 2.0**31 + 0.5), tf.int64)
    full = tf.equal(integer, 1 << 31)
    integer, shift = tf.where(full, whole(1 << 30), integer), tf.where(full, shift + 1, shift)
    tiny = shift < -31
    return tf.where(tiny, whole(0), integer), tf.where(tiny, whole(0), shift)


def multiplied(x: Tensor, integer: Tensor, shift: Tensor) -> Tensor:
    """Return whole numbers times a factor as whole numbers, rounded as `MultiplyByQuantizedMultiplier` does.

    It rounds twice: the product with the 31-bit integer, halves up, and what is shifted to the right, halves away from
    zero.

    Args:
        x: int64.
        integer: Of the factor; it broadcasts with `x`.
        shift: Of the factor.

    Example:

    >>> import tensorflow as tf
    >>> quarter = multiplier_of(tf.constant(0.25, tf.float64))
    >>> multiplied(tf.constant([6, -6, 5], tf.int64), *quarter).numpy().tolist()
    [2, -2, 2]
    """
    import tensorflow as tf

    return halved_away(product(left(x, tf.maximum(shift, 0)), integer), tf.maximum(-shift, 0))


def product(x: Tensor, y: Tensor) -> Tensor:
    """Return x * y / 2^31, int64, halves up, as `SaturatingRoundingDoublingHighMul` does."""
    return right(x * y + (1 << 30), 31)


def halved_away(x: Tensor, count: Tensor) -> Tensor:
    """Return whole numbers divided by 2^count, halves away from zero, as `RoundingDivideByPOT` does."""
    import tensorflow as tf

    mask = left(tf.ones_like(x), count) - 1
    limit = right(mask, 1) + tf.cast(x < 0, tf.int64)
    over = tf.cast(tf.bitwise.bitwise_and(x, mask) > limit, tf.int64)
    return right(x, count) + over


def factor_of(first: Tensor, second: Tensor, output: Tensor) -> Tensor:
    """Return `first * second / output`, float64, of scales that are float32."""
    import tensorflow as tf

    first, second, output = (tf.cast(scale, tf.float64) for scale in (first, second, output))
    return first * second / output


def scaled(x: Tensor, factor: Tensor) -> Tensor:
    """Return whole numbers times a factor, float32 as they are.

    Args:
        x: float32, whole numbers.
        factor: float64, above 0; it broadcasts with `x`.
    """
    return in_one_pass(_scaled, x, *multiplier_of(factor))


def sum_of(tensors: tuple[Tensor, Tensor], factors: Sequence[Multiplier], last: Multiplier, left_shift: int) -> Tensor:
    """Return the sum of two tensors, each times a factor, times the last factor; first they are shifted to the left."""
    (first, by), (second, along) = factors
    shifts = whole(left_shift), by, along
    return in_one_pass(_sum_of, *tensors, shifts, (first, second), last)


def mean_of(sums: Tensor, count: int, factor: Tensor) -> Tensor:
    """Return sums times a factor, divided by how many numbers each has: the factor's integer is divided by it."""
    import tensorflow as tf

    integer, shift = multiplier_of(factor)
    room = tf.minimum(whole(min(count.bit_length() - 1, 32)), 31 + shift)
    return in_one_pass(_scaled, sums, left(integer, room) // count, shift - room)


def with_bits(factors: Sequence[Tensor], bits: int) -> tuple[list[Tensor], Tensor]:
    """Return factors as integers, and by how much their product is to be shifted to the right.

    Args:
        factors: float32, scalars above 0.
        bits: By so many bits the largest of the integers is shifted: it lies between 2^bits and 2^(bits + 1).
    """
    import tensorflow as tf

    largest = tf.bitcast(tf.convert_to_tensor(tf.reduce_max(tf.stack(factors))), tf.int32)
    shift = bits - (tf.bitwise.right_shift(largest, 23) - 127)
    power = tf.bitcast(tf.bitwise.left_shift(shift + 127, 23), tf.float32)
    return [tf.cast(tf.round(factor * power), tf.int32) for factor in factors], shift


def power_of_two(exponent: Tensor) -> Tensor:
    """Return 2^exponent, int32."""
    import tensorflow as tf

    return tf.bitwise.left_shift(tf.ones_like(exponent), exponent)


def _scaled(x: Tensor, integer: Tensor, shift: Tensor) -> Tensor:
    import tensorflow as tf

    return tf.cast(multiplied(tf.cast(x, tf.int64), integer, shift), tf.float32)


def _sum_of(x: Tensor, y: Tensor, shifts: Sequence[Tensor], integers: Sequence[Tensor], last: Multiplier) -> Tensor:
    import tensorflow as tf

    places, *by = shifts
    parts = [left(tf.cast(part, tf.int64), places) for part in (x, y)]
    first, second = (multiplied(*each) for each in zip(parts, integers, by, strict=True))
    return tf.cast(multiplied(first + second, *last), tf.float32)


def in_one_pass(function: Any, *arguments: Tensor) -> Tensor:
    """Return what a function gives; where it is traced to be called many times, XLA makes one loop of it."""
    if tensorflow_kernels.available() and tensorflow_kernels.traced():
        return tensorflow_kernels.compiled(function)(*arguments)
    return function(*arguments)


def whole(number: int) -> Tensor:
    """Return a number, int64."""
    import tensorflow as tf

    return tf.constant(number, tf.int64)


def left(x: Tensor, count: Any) -> Tensor:
    """Return whole numbers shifted to the left, int64."""
    import tensorflow as tf

    count = tf.cast(count, tf.int64)
    return tf.bitwise.left_shift(x + tf.zeros_like(count), count + tf.zeros_like(x))


def right(x: Tensor, count: Any) -> Tensor:
    """Return whole numbers shifted to the right, int64; the sign stays."""
    import tensorflow as tf

    count = tf.cast(count, tf.int64)
    return tf.bitwise.right_shift(x + tf.zeros_like(count), count + tf.zeros_like(x))
