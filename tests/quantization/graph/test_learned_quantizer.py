"""Ranges of activations that are trained: what they begin with, where they are, and what they are worth."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.quantization.distributions import calibrated, samples
from tfcompress.core.transform import read
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.graph.learned_quantizer import LearnedQuantizer
from tfcompress.quantization.numerics.grid import Grid


@pytest.mark.on_jax
@pytest.mark.parametrize("kind", ["learned", "learned_offset", "pact"])
@pytest.mark.parametrize("relu", [True, False])
def test_a_range_that_is_set_is_that_of_the_grid_and_is_saved(kind, relu, tmp_path):
    spec = tfc.ActivationSpec(bits=4, range=kind)
    inputs = keras.Input((5,))
    quantizer = LearnedQuantizer(spec, nonnegative=relu, source="x", name="q")
    model = keras.Model(inputs, quantizer(inputs))
    x = np.random.default_rng(0).normal(size=(40, 5)).astype("float32")
    x = np.maximum(x, 0) if relu else x
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)
    assert not quantizer.calibrated
    quantizer.set_range(-0.5, 2.0)
    low, high = quantizer.range
    # A signed grid has its zero in the middle, unless the offset is trained.
    expected = (0, 2) if relu else (-0.5, 2) if kind == "learned_offset" else (-16 / 7, 2)
    assert (low, high) == pytest.approx(expected)
    values = model.predict(x, verbose=0)
    grid = Grid.of_range(low, high, 4)
    np.testing.assert_allclose(values, (grid.quantize(x).astype(float) - grid.zero_point) * grid.scale, atol=1e-6)
    model.save(tmp_path / "m.keras")
    assert keras.models.load_model(tmp_path / "m.keras").get_layer("q").range == quantizer.range


@pytest.mark.on_jax
def test_a_frozen_range_stays_though_the_optimizer_goes_on():
    inputs = keras.Input((5,))
    quantizer = LearnedQuantizer(tfc.ActivationSpec(bits=2, range="learned"), freeze_step=2)
    model = keras.Model(inputs, quantizer(inputs))
    quantizer.set_range(-0.5, 0.5)
    model.compile(keras.optimizers.SGD(1.0, momentum=0.9), "mse")
    x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    found = []
    for _ in range(4):
        model.train_on_batch(x, 3 * x)
        found.append(quantizer.range)
    assert found[0] != found[1] == found[2] == found[3]
    assert float(read(quantizer.start)[0] * (1 + read(quantizer.trained)[0])) != pytest.approx(quantizer.range[1])
    assert model.predict(x, verbose=0).max() == pytest.approx(quantizer.range[1])


@pytest.mark.parametrize("name", ["normal", "relu", "heavy", "heavy relu"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_calibration_lets_the_scale_begin_as_lsq_does(name, bits):
    x = samples(name)
    low, high = calibrated(tfc.ActivationSpec(bits=bits, range="learned"), *np.split(x, 4)).range()
    highest = 2**bits - 1 if x.min() >= 0 else 2 ** (bits - 1) - 1
    start = 2 * np.abs(x).mean() / np.sqrt(highest)
    assert high == pytest.approx(min(start * highest, x.max()), rel=1e-2)
    assert low == pytest.approx(max(-start * highest, min(x.min(), 0)), rel=1e-2)


@pytest.mark.rare  # it trains two models; what a learned scale does in a step is tested by itself
def test_learned_scales_beat_the_moving_average_with_weights_of_2_bits():
    random = np.random.default_rng(0)
    x = random.normal(size=(512, 8)).astype("float32")
    kernels = [random.normal(size=size) / part for size, part in (((8, 16), 1), ((16, 16), 4), ((16, 2), 4))]
    inputs = keras.Input((8,))
    hidden = L.Dense(16, activation="relu", name="middle")(L.Dense(16, activation="relu", name="first")(inputs))
    model = keras.Model(inputs, L.Dense(2, name="last")(hidden))
    for layer, kernel in zip(model.layers[1:], kernels, strict=True):
        layer.kernel.assign(kernel)
    y = model.predict(x, verbose=0)
    errors = {}
    for kind, weights in (("ema", "minmax"), ("learned", "learned")):
        config = tfc.QuantizeConfig(
            tfc.WeightSpec(bits=2, range=weights), tfc.ActivationSpec(bits=4, range=kind), first_and_last_bits=8
        )
        with pytest.warns(UserWarning, match="No runtime has kernels for activations of 4 bits"):
            quantized = tfc.quantize(model, config, x)
        keras.utils.set_random_seed(0)
        quantized.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, 240)), "mse")
        quantized.fit(x, y, batch_size=64, epochs=30, verbose=0)
        errors[kind] = np.square(quantized.predict(x, verbose=0) - y).mean()
    assert errors["learned"] < 0.7 * errors["ema"], errors


def test_pixels_keep_their_range_and_the_ends_their_bits():
    inputs = keras.Input((6, 6, 1), name="image")
    x = L.Conv2D(4, 3, activation="relu", name="first")(L.Rescaling(1 / 16)(inputs))
    x = L.Conv2D(4, 3, activation="relu", name="middle")(x)
    model = keras.Model(inputs, L.Dense(3, name="last")(L.Flatten()(x)))
    pixels = np.random.default_rng(0).integers(0, 17, (64, 6, 6, 1)).astype("float32")
    config = tfc.QuantizeConfig(
        tfc.WeightSpec(bits=2), tfc.ActivationSpec(range="learned_offset"), first_and_last_bits=8
    )
    quantized = tfc.quantize(model, config, pixels)
    first, *others = activation_quantizers(quantized)
    assert not isinstance(first, LearnedQuantizer) and first.range == (0, 17)  # 17 * 15 steps
    assert {q.source for q in others if isinstance(q, LearnedQuantizer)} >= {"middle_relu"}
    bits = {layer.name: layer.transforms[0][1].spec.bits for layer in wrapped_layers(quantized)}
    assert list(bits.values()) == [8, 2, 8]


@pytest.mark.on_jax
@pytest.mark.parametrize("kind", ["learned", "learned_offset", "pact"])
def test_without_calibration_the_first_step_lets_it_begin(kind):
    quantizer = LearnedQuantizer(tfc.ActivationSpec(bits=4, range=kind))
    x = np.random.default_rng(0).uniform(-1, 3, (16, 5)).astype("float32")
    y = keras.ops.convert_to_numpy(quantizer(x, training=True))
    low, high = quantizer.range
    top = min(x.max(), 2 * np.abs(x).mean() * 7**0.5) if kind == "learned" else x.max()
    assert quantizer.calibrated and high == pytest.approx(top, rel=1e-5)
    assert low == pytest.approx(x.min() if kind == "learned_offset" else -high * 8 / 7, rel=1e-5)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(quantizer(x)), y, atol=1e-6)
    quantizer(100 * x, training=True)
    assert quantizer.range == (low, high)  # from then on it is trained alone


def test_first_and_last_layers_of_a_mapping_and_of_branches():
    inputs = keras.Input((8,), name="x")
    stem = L.Dense(4, name="stem")(inputs)
    middle = L.Dense(4, name="middle")(stem)
    heads = [L.Dense(2, name="left")(middle), L.Dense(2, name="right")(L.ReLU()(middle))]
    model = keras.Model(inputs, heads)
    few = tfc.QuantizeConfig(tfc.WeightSpec(bits=3), activations=None, first_and_last_bits=6)
    plain = tfc.QuantizeConfig(tfc.WeightSpec(bits=4), activations=None)
    for config, expected in (
        (few, {"stem": 6, "middle": 3, "left": 6, "right": 6}),
        ({"right": plain, ".*": few}, {"stem": 6, "middle": 3, "left": 6, "right": 4}),
    ):
        quantized = tfc.quantize(model, config)
        assert {layer.name: layer.transforms[0][1].spec.bits for layer in wrapped_layers(quantized)} == expected
