"""Constants of converted graphs are known as planned weights, however converters laid them out."""

import numpy as np
import pytest

from tfcompress.export.plan.planned_weights import NO_WEIGHTS, PlannedWeight, PlannedWeights
from tfcompress.quantization.encoding import Affine


def encoded(shape, axes, seed=0):
    values = np.random.default_rng(seed).normal(size=shape).astype("float32")
    limit = np.abs(values).max(axis=tuple(a for a in range(values.ndim) if a not in axes))
    return Affine.symmetric(values, limit, 8, axes)


def planned(*encodings):
    return PlannedWeights(PlannedWeight(f"layer_{i}", "kernel", one) for i, one in enumerate(encodings))


def check(found, constant, axes):
    np.testing.assert_array_equal(found.decode(), constant)
    assert found.axis == axes


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 1, 2), (3, 2, 0, 1), (2, 0, 1, 3)])
def test_transposed(order):
    kernel = encoded((3, 3, 4, 8), (3,))
    weights = planned(encoded((3, 3, 4, 8), (3,), seed=1), kernel)
    constant = kernel.decode().transpose(order)
    check(weights.find(constant), constant, (order.index(3),))
    assert weights.find(constant, (order.index(2),)) is None
    np.testing.assert_array_equal(weights.find(constant).integers, kernel.integers.transpose(order))


@pytest.mark.parametrize(
    ("shape", "axes", "made", "found"),
    [
        ((3, 3, 4, 2), (2, 3), (1, 3, 3, 8), (3,)),  # depthwise, TFLite
        ((7, 5), (1,), (7, 1, 5), (2,)),
        ((4, 3, 5), (1, 2), (4, 15), (1,)),  # heads
        ((1, 9), (), (9, 1), ()),
        ((1,), (), (1, 1), ()),
    ],
)
def test_reshaped(shape, axes, made, found):
    kernel = encoded(shape, axes)
    constant = kernel.decode().reshape(made)
    check(planned(kernel).find(constant), constant, found)


def test_reordered_and_joined():
    """The gates of an LSTM in ONNX: both directions in one constant, the gates in another order."""
    one, other = encoded((6, 16), (1,)), encoded((6, 16), (1,), seed=1)
    both = []
    for kernel in (one, other):
        gates = np.split(kernel.decode(), 4, axis=1)
        both.append(np.concatenate([gates[i] for i in (0, 3, 1, 2)], axis=1).T)
    constant = np.stack(both)
    check(planned(one, other).find(constant), constant, (0, 1))


def test_cut_into_parts():
    kernel = encoded((3, 3, 4, 8), (3,))
    first = kernel.decode()[..., :4].transpose(3, 0, 1, 2)
    check(planned(kernel).find(first), first, (0,))
    shared = encoded((6, 9), ())
    part = np.ascontiguousarray(shared.decode()[:, :6])
    found = planned(shared).find(part)
    np.testing.assert_array_equal(found.decode(), part)
    np.testing.assert_array_equal(found.integers, shared.integers[:, :6])


def test_multiplied_by_what_is_behind():
    kernel = encoded((3, 3, 4, 8), (3,))
    factor = np.random.default_rng(2).normal(size=8).astype("float32")
    constant = kernel.decode() * factor
    found = planned(kernel).find(constant)
    np.testing.assert_allclose(found.decode(), constant, rtol=1e-5)
    np.testing.assert_array_equal(np.abs(found.integers), np.abs(kernel.integers))


def test_others_are_not_known():
    kernel = encoded((3, 3, 4, 8), (3,))
    weights = planned(kernel)
    constant = kernel.decode().copy()
    constant[1, 1, 1, 1] += 0.4 * kernel.scale.max()
    assert weights.find(constant) is None
    assert weights.find(kernel.decode().astype("float64")) is None
    assert weights.find(np.full((3, 3, 4, 8), np.inf, "float32")) is None
    assert NO_WEIGHTS.find(kernel.decode()) is None
    assert planned(encoded((1, 8), (1,))).find(np.ones((1, 8), "float32")) is None  # one value is a multiple of any


def test_zeros():
    kernel = Affine.symmetric(np.zeros((4, 6), "float32"), np.zeros(6), 8, (1,))
    constant = np.zeros((6, 4), "float32")
    check(planned(kernel).find(constant), constant, (0,))
