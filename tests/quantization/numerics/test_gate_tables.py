"""Sigmoid and tanh of 16 bits in fixed point."""

import numpy as np
import pytest

from tfcompress.quantization.numerics.gate_tables import sigmoid_table, tanh_table

PLACES = np.arange(-(1 << 15), 1 << 15)


@pytest.mark.parametrize("integer_bits", [3, 4])
def test_tanh_is_near_and_odd(integer_bits):
    table = tanh_table(integer_bits).astype(int)
    assert np.abs(table - np.tanh(PLACES / 2.0 ** (15 - integer_bits)) * 2**15).max() < 12
    assert np.array_equal(table[1:], -table[:0:-1])


def test_sigmoid_is_near_and_symmetric():
    table = sigmoid_table().astype(int)
    assert np.abs(table - 2**15 / (1 + np.exp(-PLACES / 2.0**12))).max() < 7
    assert set(table[1 << 15 :][1:] + table[1 << 15 : 0 : -1][1:]) == {2**15 - 1}
