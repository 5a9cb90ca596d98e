"""Sigmoid and tanh of 16 bits in fixed point, as LiteRT's integer LSTM computes them.

Follows gemmlowp's `fixedpoint.h`: the exponential of a part of the range by its series, times constants for the bits
of the rest; quotients by three steps of Newton's method.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

BITS = 16
LEAST, MOST = -(1 << 15), (1 << 15) - 1

Raw = Any
"""Integers of 16 bits, held as int64."""

EXPONENTIALS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
"""exp(-2^exponent), with 31 bits behind the point."""

AT_EIGHTH, THIRD = 1895147668, 715827883
"""exp(-1/8) and 1/3, likewise."""

NEWTON = 1515870810, -1010580540
"""48/17 and -32/17, with 29 bits: of a half denominator they make the first guess at a quotient."""


@functools.cache
def sigmoid_table() -> np.ndarray:
    """Return the sigmoid of each number of 16 bits with 12 behind the point, in 16 bits with 15 behind it.

    >>> table = sigmoid_table()
    >>> [int(table[place + (1 << 15)]) for place in (-(1 << 12), 0, 1 << 12)]
    [8815, 16384, 23952]
    """
    x = np.arange(LEAST, MOST + 1)
    positive = _quotient(_exponential(_wrapped(-np.where(x > 0, x, _wrapped(-x))), 3), minus_one=False)
    return np.where(x == 0, 1 << 14, np.where(x > 0, positive, MOST - positive)).astype(np.int16)


@functools.cache
def tanh_table(integer_bits: int) -> np.ndarray:
    """Return the tanh of each number of 16 bits, in 16 bits with 15 behind the point.

    Args:
        integer_bits: In front of the point, of the number.

    >>> int(tanh_table(3)[(1 << 15) + (1 << 12)])
    24964
    """
    x = np.arange(LEAST, MOST + 1)
    found = _quotient(_exponential(np.where(x < 0, x, -x), integer_bits + 1), minus_one=True)
    return np.where(x == 0, 0, np.where(x < 0, -found, found)).astype(np.int16)


def _wrapped(x: Raw) -> Raw:
    return (x + (1 << 15)) % (1 << BITS) - (1 << 15)


def _product(a: Raw, b: Raw) -> Raw:
    """Return the high half of twice a product, rounded, halves away from zero."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    return np.minimum(np.sign(nudged) * (np.abs(nudged) >> 15), MOST)


def _shifted_right(x: Raw, places: int) -> Raw:
    """Return integers over a power of two, rounded, halves away from zero."""
    mask = (1 << places) - 1
    return (x >> places) + ((x & mask) > (mask >> 1) + (x < 0))


def _shifted_left(x: Raw, places: int) -> Raw:
    return np.clip(x << places, LEAST, MOST)


def _constant(value: int) -> int:
    """Return a number of 32 bits in 16."""
    return int(_shifted_right(np.array(value, np.int64), 16))


def _exponential(x: Raw, integer_bits: int) -> Raw:
    """Return exp of numbers that aren't positive, with 15 bits behind the point."""
    fraction_bits = 15 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    part = (x & (quarter - 1)) - quarter
    found = _exponential_near_zero(_shifted_left(part, integer_bits))
    rest = _wrapped(part - x)
    for exponent, constant in EXPONENTIALS.items():
        if integer_bits > exponent:
            isset = (rest & (1 << (fraction_bits + exponent))) != 0
            found = np.where(isset, _product(found, _constant(constant)), found)
    return np.where(x == 0, MOST, found)


def _exponential_near_zero(x: Raw) -> Raw:
    """Return exp of numbers from -1/4 to 0, without 0."""
    constant, third = _constant(AT_EIGHTH), _constant(THIRD)
    x = x + (1 << 12)
    square = _product(x, x)
    cube, fourth = _product(square, x), _product(square, square)
    series = _shifted_right(_product(_shifted_right(fourth, 2) + cube, third) + square, 1)
    return np.clip(constant + _product(x + series, constant), LEAST, MOST)


def _quotient(x: Raw, minus_one: bool) -> Raw:
    """Return 1 / (1 + x), or (1 - x) / (1 + x), for numbers from 0 to 1."""
    total = x + MOST
    half = (total + np.where(total >= 0, 1, -1)) // 2
    one = 1 << 13  # with two bits in front of the point
    found = _constant(NEWTON[0]) + _product(half, _constant(NEWTON[1]))
    for _ in range(3):
        found = _wrapped(found + _shifted_left(_product(found, one - _product(half, found)), 2))
    return _shifted_left(found - one, 2) if minus_one else _shifted_left(found, 1)
