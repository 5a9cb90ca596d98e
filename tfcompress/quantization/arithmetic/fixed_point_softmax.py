"""The softmax of TFLite's reference kernels: powers of e and a reciprocal in fixed point, as gemmlowp has them.

Numbers are int64 and stand for 32-bit ones with so many bits behind the point: 31 of a power of e, 26 of its exponent,
29 within Newton's iterations. `numerics.gate_tables` has the same with 16 bits.
"""

from __future__ import annotations

from typing import Any

from tfcompress.quantization.arithmetic.fixed_point import (
    halved_away,
    in_one_pass,
    left,
    multiplier_of,
    product,
    right,
    whole,
)
from tfcompress.quantization.numerics.gate_tables import AT_EIGHTH, EXPONENTIALS, NEWTON, THIRD

Tensor = Any

EXPONENT_BITS, SUM_BITS, STEPS = 26, 19, 256
"""Behind the point of exponents, and of the sum of powers; in how many steps a probability is given."""

LARGEST = (1 << 31) - 1
"""Which also stands for 1."""

QUARTER = 1 << (EXPONENT_BITS - 2)


def softmax(x: Tensor, scale: Tensor) -> Tensor:
    """Return a softmax along the last axis, in 256ths, float32.

    Args:
        x: Whole numbers of 8 bits, float32.
        scale: Of `x`, float64.
    """
    return in_one_pass(_softmax, x, scale)


def _softmax(x: Tensor, scale: Tensor) -> Tensor:
    import tensorflow as tf

    powers = _powers(scale)
    below = tf.cast(tf.reduce_max(x, axis=-1, keepdims=True) - x, tf.int32)
    total = tf.reduce_sum(tf.gather(halved_away(powers, whole(31 - SUM_BITS)), below), axis=-1, keepdims=True)
    length = right(tf.bitcast(tf.cast(total, tf.float64), tf.int64), 52) - 1023  # total lies from 2^length on
    inverse = _reciprocal(left(total, 31 - length) - (1 << 31))
    shifted = product(inverse, tf.gather(powers, below))
    return tf.cast(halved_away(shifted, length - SUM_BITS + 31 - 8), tf.float32)


def _powers(scale: Tensor) -> Tensor:
    """Return e^(-i * scale) for each difference i of two integers; 0 where that is too small."""
    import tensorflow as tf

    integer, shift = multiplier_of(tf.minimum(scale * float(1 << EXPONENT_BITS), float(LARGEST)))
    differences = -tf.range(STEPS, dtype=tf.int64)
    exponents = product(left(differences, shift), integer)
    least = -(right(whole(31 << EXPONENT_BITS), shift))
    return tf.where(differences >= least, _power(exponents), whole(0))


def _power(exponent: Tensor) -> Tensor:
    """Return e to the power of numbers that aren't above 0."""
    import tensorflow as tf

    part = tf.bitwise.bitwise_and(exponent, whole(QUARTER - 1)) - QUARTER
    x = left(part, 31 - EXPONENT_BITS) + (1 << 28)
    square = product(x, x)
    cube, fourth = product(square, x), product(square, square)
    series = halved_away(product(halved_away(fourth, whole(2)) + cube, whole(THIRD)) + square, whole(1))
    made = AT_EIGHTH + product(whole(AT_EIGHTH), x + series)
    rest = part - exponent
    for power, factor in EXPONENTIALS.items():
        bit = tf.bitwise.bitwise_and(rest, whole(1 << (EXPONENT_BITS + power)))
        made = tf.where(bit != 0, product(made, whole(factor)), made)
    return tf.where(exponent == 0, whole(LARGEST), made)


def _reciprocal(x: Tensor) -> Tensor:
    """Return 1 / (1 + x) for numbers from 0 to 1, 31 bits behind the point."""
    import tensorflow as tf

    half = right(x + LARGEST + 1, 1)
    guess = NEWTON[0] + product(half, whole(NEWTON[1]))
    for _ in range(3):
        guess = guess + left(product(guess, (1 << 29) - product(half, guess)), 2)
    return tf.minimum(left(guess, 1), whole(LARGEST))
