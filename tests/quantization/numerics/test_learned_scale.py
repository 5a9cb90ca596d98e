"""The gradients of learned scales are the papers' formulas, written anew in float64."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tests.quantization.numerics.test_fake_quant import pull
from tfcompress.core.transform import read
from tfcompress.quantization.graph.learned_quantizer import LearnedQuantizer
from tfcompress.quantization.numerics.learned_scale import fake_quant_scaled, with_gradient_times

F = np.float32


def lsq(x, scale, upstream, lowest, highest):
    """Return the value, the gradient to x and, value by value, to the scale (LSQ, equations 1 to 5)."""
    x, scale = x.astype(np.float64), np.asarray(scale, np.float64)
    whole = np.rint(np.clip(x / scale, lowest, highest))
    below, above = x / scale < lowest, x / scale > highest
    slope = np.where(below, lowest, np.where(above, highest, whole - x / scale))
    return whole * scale, upstream * ~(below | above), upstream * slope


@pytest.mark.on_jax
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights(bits, narrow):
    random = np.random.default_rng(bits)
    x, upstream = random.normal(size=(2, 60, 5)).astype(F)
    highest = 2 ** (bits - 1) - 1
    lowest = -highest - (0 if narrow else 1)
    for axis, scale in ((1, F([0.1, 0.5, 1, 2, 0.02])), (None, F(0.3))):
        value, gradients = pull(
            lambda *a, axis=axis: fake_quant_scaled(*a, bits=bits, narrow=narrow, axis=axis), (x, scale), upstream
        )
        expected, to_x, to_scale = lsq(x, scale, upstream, lowest, highest)
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        np.testing.assert_array_equal(gradients[0], to_x)
        np.testing.assert_allclose(gradients[1], to_scale.sum(None if axis is None else 0), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(value, fake_quant_scaled(x, scale, bits=bits, narrow=narrow, axis=axis))


@pytest.mark.on_jax
def test_a_scale_that_is_not_above_0_still_gets_its_gradient():
    x, upstream = F([1.0, -2.0]), F([1.0, 1.0])
    _, gradients = pull(lambda *a: fake_quant_scaled(*a, bits=4), (x, F(-0.5)), upstream)
    assert gradients[1] == 7 - 8
    value, gradients = pull(lambda x: with_gradient_times(x, 0.25, least=0.5), (F([-1.0, 2.0]),), F([1.0, 4.0]))
    assert value.tolist() == [0.5, 2.0] and gradients[0].tolist() == [0.25, 1.0]


def of_scale(x, values, upstream, bits, signed):
    levels = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return np.sum(lsq(x, values[0], upstream, *levels)[2], keepdims=True).reshape(1) / np.sqrt(x[0].size * levels[1])


def of_scale_and_offset(x, values, upstream, bits, signed):
    """LSQ+, equations 3 to 6, with the offset of the grid that holds 0."""
    scale = float(values[0])
    low = -np.rint(-values[1] / scale) * scale
    _, _, to_scale = lsq(x - low, scale, upstream, 0, 2**bits - 1)
    outside = (x < low) | (x > low + scale * (2**bits - 1))
    return np.array([to_scale.sum(), (upstream * outside).sum()]) / np.sqrt(x[0].size * (2**bits - 1))


def of_clip(x, values, upstream, bits, signed):
    """PACT, equation 3, and the gradient of its regularization."""
    clip = values[0]
    low = -clip * 2 ** (bits - 1) / (2 ** (bits - 1) - 1) if signed else 0
    return np.array([upstream[x > clip].sum() + (low / clip) * upstream[x < low].sum() + 2 * 0.1 * clip])


def trained(quantizer):
    """Return the clip or scale, and the lower end where it is trained."""
    start, shares = read(quantizer.start).astype(np.float64), read(quantizer.trained)
    size = start[0] * (1 + shares[0])
    return np.array([size, start[1] + start[0] * quantizer.highest * shares[1]] if quantizer.offset else [size])


@pytest.mark.on_jax
@pytest.mark.parametrize(
    ("kind", "relu", "formula"),
    [
        ("learned", True, of_scale),
        ("learned", False, of_scale),
        ("learned_offset", False, of_scale_and_offset),
        ("pact", True, of_clip),
        ("pact", False, of_clip),
    ],
)
def test_activations(kind, relu, formula):
    """By one step of training, of which all gradients are that are given to the variable."""
    bits, random = 3, np.random.default_rng(1)
    quantizer = LearnedQuantizer(
        tfc.ActivationSpec(bits=bits, range=kind, clip_decay=0.1), nonnegative=relu, name="quantizer"
    )
    model = keras.Sequential([keras.Input((7,)), quantizer])
    quantizer.set_range(0.0 if relu else -0.9, 1.5)
    x, target = random.normal(size=(2, 16, 7)).astype(F)
    x = np.maximum(x, 0) if relu else x
    before, seen = trained(quantizer), model.predict(x, verbose=0)
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, target)
    upstream = 2 * (seen - target) / target.size
    expected = formula(x, before.astype(np.float64), upstream.astype(np.float64), bits, signed=not relu)
    np.testing.assert_allclose(before - trained(quantizer), expected, rtol=1e-3, atol=1e-6)
