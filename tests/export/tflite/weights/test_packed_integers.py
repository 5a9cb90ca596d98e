"""Several integers to a byte."""

import numpy as np
import pytest

from tfcompress.export.tflite.weights.packed_integers import pack, unpack


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_there_and_back(bits, size):
    values = np.random.default_rng(size).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (1, size)).astype("int8")
    packed = pack(values, bits)
    assert packed.dtype == np.uint8 and packed.size == -(-size * bits // 8)
    assert unpack(packed, bits, size).tolist() == values.reshape(-1).tolist()
    assert unpack(packed, bits, size, signed=False).tolist() == (values.reshape(-1).astype(int) % 2**bits).tolist()
    assert pack(values[:, ::2], bits).tolist() == pack(values[:, ::2].copy(), bits).tolist()
