"""What a compressed weight is in a file: decoded bit by bit, through every change of its layout."""

import tracemalloc

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tfcompress.core.wrappers import with_transforms
from tfcompress.quantization.encoding import Affine, Table, affine, encode_bias
from tfcompress.quantization.numerics.fake_quant import fake_quant_symmetric
from tfcompress.quantization.quantize_config import WeightSpec
from tfcompress.quantization.weights.uniform import WeightQuantizer


def weight(shape=(5, 7, 6), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def limits(values, axes):
    return np.abs(values).max(axis=tuple(a for a in range(values.ndim) if a not in axes))


@pytest.mark.parametrize("bits", [2, 4, 8, 12])
@pytest.mark.parametrize("axes", [(), (0,), (2,), (0, 2)])
def test_symmetric_integers_are_those_of_the_fake_quantizer(bits, axes, monkeypatch):
    values = weight()
    values[:, :, 3] = 0
    limit = 0.8 * limits(values, axes)
    monkeypatch.setattr(affine, "PIECE", 32)
    made = Affine.symmetric(values, limit, bits, axes)
    expected = fake_quant_symmetric(values, limit, bits=bits, axis=axes or None)
    np.testing.assert_array_equal(made.decode(), np.asarray(expected))
    np.testing.assert_array_equal(made.zeros, made.decode() == 0)
    assert made.axis == axes and made.block is None
    assert np.abs(made.integers).max() == 2 ** (bits - 1) - 1
    assert made.integers.dtype == (np.int8 if bits <= 8 else np.int16)


def test_a_transform_encodes_what_it_applies():
    values = weight((3, 3, 4, 8))
    quantizer = WeightQuantizer(WeightSpec(bits=4), axis=(3,))
    quantizer.ratio = None
    np.testing.assert_array_equal(quantizer.encode(values).decode(), np.asarray(quantizer.apply(values)))


@pytest.mark.parametrize("axes", [(), (1,), (0, 2)])
def test_layouts_of_affine(axes):
    values = weight()
    made = Affine.symmetric(values, limits(values, axes), 8, axes)
    moved = made.transpose((2, 0, 1))
    np.testing.assert_array_equal(moved.decode(), made.decode().transpose(2, 0, 1))
    for shape in ((5, 1, 7, 6, 1), (35, 6), (5, 42), (210,)):
        found = made.reshape(shape)
        np.testing.assert_array_equal(found.decode(), made.decode().reshape(shape))
    for axis in range(3):
        np.testing.assert_array_equal(made.take([1, 3], axis).decode(), made.decode().take([1, 3], axis))
    assert made.reshape((5, 1, 7, 6, 1)).axis == tuple({0: 0, 1: 2, 2: 3}[axis] for axis in axes)


def test_scales_are_of_no_more_axes_than_they_need_when_axes_are_joined():
    """Kernels of experts, (experts, inputs, units) with a scale for each unit, become (inputs, experts * units)."""
    values = weight((3, 8, 5))
    made = Affine.symmetric(values, limits(values, (2,)), 8, (2,)).transpose((1, 0, 2)).reshape((8, 15))
    assert made.axis == (1,) and made.scale.shape == (1, 15)
    np.testing.assert_array_equal(made.scale[0, :5], made.scale[0, 5:10])


@pytest.mark.parametrize("axes", [(), (2,)])
def test_a_factor_changes_scales_and_signs(axes):
    values = weight()
    made = Affine.symmetric(values, limits(values, axes), 8, axes)
    factor = np.array([2.0, -3.0, 0.0, 0.1, 1.0, -1.0])
    found = made.scaled(factor)
    np.testing.assert_allclose(found.decode(), made.decode() * factor, rtol=2e-7, atol=0)
    assert (found.scale > 0).all() and found.axis == (2,)
    np.testing.assert_array_equal(np.abs(found.integers[..., 1]), np.abs(made.integers[..., 1]))


def test_zero_points_and_blocks():
    integers = np.random.default_rng(0).integers(0, 16, (4, 6)).astype("int8")
    scale = np.float32([[0.5], [2.0]])  # for each two rows
    made = Affine(integers, scale, np.array([[3], [8]], "int8"), bits=4)
    rows = np.repeat([[3], [8]], 2, axis=0)
    np.testing.assert_array_equal(made.decode(), (integers - rows) * np.repeat(scale, 2, axis=0))
    np.testing.assert_array_equal(made.zeros, integers == rows)
    assert made.block == 2 and made.axis == (0,)
    np.testing.assert_array_equal(made.transpose((1, 0)).decode(), made.decode().T)
    with pytest.raises(ValueError, match="Expected a symmetric grid"):
        made.reshape((24,))


def test_tables():
    random = np.random.default_rng(0)
    indices, values = random.integers(0, 3, (4, 5)).astype("uint8"), np.float32([[0, 1, -2], [0.5, 0, 3]])
    shared = Table(indices, values[0])
    np.testing.assert_array_equal(shared.decode(), values[0][indices])
    np.testing.assert_array_equal(shared.zeros, indices == 0)
    own = Table(indices[:2], values, axis=0)
    np.testing.assert_array_equal(own.decode()[1], values[1][indices[1]])
    np.testing.assert_array_equal(own.transpose((1, 0)).decode(), own.decode().T)
    factor = np.float32([[2.0], [-1.0]])
    np.testing.assert_array_equal(own.scaled(factor).decode(), own.decode() * factor)
    np.testing.assert_array_equal(shared.scaled(np.arange(5.0)).decode(), shared.decode() * np.arange(5))
    with pytest.raises(ValueError, match="Expected a factor along axis 0"):
        own.scaled(np.arange(5.0))


def test_a_wrapper_encodes_through_its_chain():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, name="dense")])
    pruned = tfc.prune_once(model, 0.5).get_layer("dense")
    layer = with_transforms(pruned, [(0, WeightQuantizer(WeightSpec(), axis=(1,)))])
    made = layer.encoded()[0]
    np.testing.assert_array_equal(made.decode(), np.asarray(layer.transformed()[0]))
    assert isinstance(made, Affine) and made.zeros.sum() >= 12


@pytest.mark.parametrize("axis", [None, 0])
def test_a_bias_fits_in_32_bits(axis):
    kernel = np.array([[1.0, -0.5], [1e-12, 1e-12], [0.0, 0.0]], "float32")
    made = Affine.symmetric(kernel, limits(kernel, () if axis is None else (0,)), 8, () if axis is None else (0,))
    bias = np.array([0.1, 5.0, -7.0], "float32")
    weights, units = encode_bias(bias, 0.01, made, 0)
    np.testing.assert_allclose(units.decode(), bias, rtol=1e-6, atol=units.scale.max() / 2)
    np.testing.assert_array_equal(units.scale, np.float32(0.01) * weights.scale.ravel())
    assert np.abs(units.integers).max() <= 2**30
    np.testing.assert_allclose(weights.decode()[0], made.decode()[0], rtol=1e-6)
    assert not weights.decode()[2].any()


def test_encoding_copies_no_kernel():
    kernel = np.random.default_rng(0).normal(size=(2000, 2000)).astype("float32")
    tracemalloc.start()
    try:
        Affine.symmetric(kernel, np.float32(3), 8)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * kernel.nbytes


def in_blocks():
    """Return (heads, size, outputs) in blocks of 2 heads of 4, of which each output has two."""
    integers = np.random.default_rng(0).integers(-7, 8, (4, 4, 3)).astype("int8")
    return Affine(integers, np.random.default_rng(1).uniform(0.5, 2, (2, 1, 3)).astype("float32"), bits=4)


def test_blocks_through_changes_of_the_layout(monkeypatch):
    made = in_blocks()
    values = made.integers * np.repeat(made.scale, 2, 0)
    np.testing.assert_array_equal(made.decode(), values)
    matrix = made.reshape((16, 3))
    rows = np.arange(1.0, 17.0)[:, None]
    assert matrix.block == 8 and matrix.scale.shape == (2, 3)
    for found, expected in (
        (matrix, values.reshape(16, 3)),
        (matrix.transpose((1, 0)), values.reshape(16, 3).T),
        (made.reshape((4, 2, 2, 3)), values.reshape(4, 2, 2, 3)),
        (made.take([3, 0], 0), values[[3, 0]]),
        (made.scaled(np.array([2.0, -1.0, 0.5])), values * np.float32([2.0, -1.0, 0.5])),
        (matrix.scaled(rows), values.reshape(16, 3) * rows),
    ):
        np.testing.assert_allclose(found.decode(), expected, rtol=1e-6)
    integers, scale = matrix.blocks()
    np.testing.assert_array_equal((integers * scale).reshape(16, 3), values.reshape(16, 3))
    places = (np.array([0, 3, 2]), np.array([1, 0, 3]), np.array([2, 2, 0]))
    np.testing.assert_array_equal(made.integers[places] * made.scale_at(places), values[places])
    monkeypatch.setattr(affine, "PIECE", 3)
    for each in (made, matrix, matrix.transpose((1, 0))):
        whole = each.decode()
        for piece, part in each.decode_in_pieces():
            np.testing.assert_array_equal(part, whole[piece])
