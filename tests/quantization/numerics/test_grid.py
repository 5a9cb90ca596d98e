"""The grid of a tensor is that of TensorFlow's fake-quantization."""

import numpy as np
import pytest
import tensorflow as tf

from tfcompress.quantization.numerics.grid import Grid


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_grid_is_tensorflows(bits, narrow):
    random = np.random.default_rng(0)
    for _ in range(200):
        low, high = np.float32(10 ** random.uniform(-3, 2, 2)) * np.float32([-1, 1])
        low = random.choice([low, -high, np.float32(0)])
        grid = Grid.of_range(float(low), float(high), bits, narrow)
        ends = tf.quantization.fake_quant_with_min_max_vars(np.float32([-1e9, 1e9]), low, high, bits, narrow)
        assert grid.minimum == ends[0].numpy()
        np.testing.assert_allclose(grid.maximum, ends[1].numpy(), rtol=1e-6, atol=1e-6 * abs(low))


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_integers_stand_for_what_fake_quantization_gives(bits):
    grid = Grid.of_range(-1.3, 2.9, bits, narrow=True)
    values = np.random.default_rng(0).normal(0, 2, 500).astype("float32")
    expected = tf.quantization.fake_quant_with_min_max_vars(values, -1.3, 2.9, bits, narrow_range=True)
    found = (grid.quantize(values).astype("float64") - grid.zero_point) * grid.scale
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert grid.quantize(np.float32([-9e9, 9e9])).tolist() == [grid.lowest, grid.highest]
    assert grid.unsigned_zero_point == grid.zero_point + 2 ** (bits - 1)
    assert grid.type == ("INT16" if bits > 8 else "INT8")


def test_grids_whose_scales_differ_by_rounding_are_close():
    grid = Grid(0.1, 3, 8)
    assert grid.close(Grid(0.1 * (1 + 5e-7), 3, 8)) and not grid.close(Grid(0.1 * (1 + 2e-6), 3, 8))
    assert not grid.close(Grid(0.1, 4, 8)) and not grid.close(Grid(0.1, 3, 16))
