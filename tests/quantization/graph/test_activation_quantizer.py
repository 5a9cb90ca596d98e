"""The quantizers of weights and activations, by themselves."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

import tfcompress as tfc
from tfcompress.core.transform import read
from tfcompress.core.wrappers import with_transforms
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.numerics.fake_quant import fake_quant
from tfcompress.quantization.weights.float16 import Float16Weight
from tfcompress.quantization.weights.uniform import WeightQuantizer


def values(shape=(16, 5), seed=0, scale=1.0):
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype("float32")


def test_a_range_that_was_never_set_changes_nothing_and_says_so():
    quantizer = ActivationQuantizer(tfc.ActivationSpec(), source="conv")
    x = values()
    np.testing.assert_array_equal(ops.convert_to_numpy(quantizer(x)), x)
    assert not quantizer.calibrated
    with pytest.raises(ValueError, match="Received: that of 'conv', which is not calibrated"):
        _ = quantizer.range


def test_a_fixed_symmetric_range_has_the_grid_of_the_runtimes():
    most = 32767 / 32768  # of softmax and tanh with 16 bits
    quantizer = ActivationQuantizer(tfc.ActivationSpec(bits=16, symmetric=True), fixed=(-most, most))
    x = np.random.default_rng(0).uniform(-1, 1, (1000, 1)).astype("float32")
    steps = ops.convert_to_numpy(quantizer(x)) * 2**15
    assert float(quantizer.scale) == 2.0**-15
    np.testing.assert_allclose(steps, np.round(steps), rtol=0, atol=0.01)
    np.testing.assert_allclose(steps, x * 2**15, rtol=0, atol=0.51)


@pytest.mark.on_jax
def test_the_moving_average_has_no_bias():
    momentum = 0.9
    quantizer = ActivationQuantizer(tfc.ActivationSpec(momentum=momentum))
    batches = [values(seed=seed, scale=seed + 1) for seed in range(4)]
    for x in batches:
        y = quantizer(x, training=True)
    weights = momentum ** np.arange(len(batches))[::-1]
    expected = [np.average([end(x) for x in batches], weights=weights) for end in (np.min, np.max)]
    np.testing.assert_allclose(quantizer.range, expected, rtol=1e-5)
    # What it returns in training is already on the new grid, and so it is in inference.
    low, high = quantizer.range
    np.testing.assert_allclose(ops.convert_to_numpy(y), fake_quant(batches[-1], low, high), atol=1e-6)
    np.testing.assert_allclose(ops.convert_to_numpy(quantizer(batches[-1])), ops.convert_to_numpy(y), atol=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
def test_behind_a_relu_the_range_is_found_from_the_maximum_alone(symmetric):
    spec = tfc.ActivationSpec(symmetric=symmetric)
    quick, plain = ActivationQuantizer(spec, nonnegative=True), ActivationQuantizer(spec)
    for seed in range(3):
        x = np.maximum(values(seed=seed, scale=seed + 1), 0)
        np.testing.assert_array_equal(
            ops.convert_to_numpy(quick(x, training=True)), ops.convert_to_numpy(plain(x, training=True))
        )
    assert quick.range == plain.range
    assert quick.range[0] == (-quick.range[1] if symmetric else 0.0)
    with_nan = np.float32([[np.nan, 1.0]])
    quick(with_nan, training=True)
    assert quick.range == plain.range


def test_a_range_includes_zero_and_ignores_what_is_not_finite():
    quantizer = ActivationQuantizer(tfc.ActivationSpec())
    quantizer(np.array([[2.0, 3.0]], "float32"), training=True)
    quantizer(np.array([[np.inf, np.nan]], "float32"), training=True)
    np.testing.assert_allclose(quantizer.range, (0.0, 3.0))


def test_means_of_what_it_quantized_leave_the_range_alone_and_halves_go_up():
    quantizer = ActivationQuantizer(tfc.ActivationSpec(bits=4))
    quantizer(np.float32([[0.0, 15.0]]), training=True)
    means = ops.convert_to_numpy(quantizer(np.float32([[0.5, 1.5, 2.25, 99.0]]), training=True, observe=False))
    np.testing.assert_array_equal(means, [[1.0, 2.0, 2.0, 15.0]])
    assert quantizer.range == (0.0, 15.0)
    assert int(read(quantizer.counts)[1]) == 1


@pytest.mark.on_jax
def test_a_frozen_range_stays():
    quantizer = ActivationQuantizer(tfc.ActivationSpec(momentum=0.5), freeze_step=2)
    for seed in range(2):
        quantizer(values(seed=seed), training=True)
    before = quantizer.range
    quantizer(values(scale=50), training=True)
    assert quantizer.range == before


@pytest.mark.on_jax
def test_frozen_from_the_start_still_needs_one_batch():
    quantizer = ActivationQuantizer(tfc.ActivationSpec(), freeze_step=0)
    quantizer(values(), training=True)
    before = quantizer.range
    assert before[1] > 0
    quantizer(values(scale=50), training=True)
    assert quantizer.range == before


@pytest.mark.on_jax
def test_calibrated_ranges_move_slowly_in_training():
    quantizer = ActivationQuantizer(tfc.ActivationSpec(momentum=0.9))
    quantizer.build((None, 2))
    quantizer.set_range(-1.0, 1.0)
    quantizer(np.array([[-1.0, 3.0]], "float32"), training=True)
    np.testing.assert_allclose(quantizer.range, (-1.0, 1.2), rtol=1e-3)


def test_symmetric_and_dynamic():
    x = values()
    symmetric = ActivationQuantizer(tfc.ActivationSpec(bits=16, symmetric=True))
    symmetric(x, training=True)
    low, high = symmetric.range
    assert low == -high == -np.abs(x).max()
    dynamic = ActivationQuantizer(tfc.ActivationSpec(dynamic=True, symmetric=True))
    y = ops.convert_to_numpy(dynamic(x))
    steps = np.abs(x).max(axis=1, keepdims=True) / 127
    np.testing.assert_allclose(y, np.round(x / steps) * steps, atol=1e-6)
    with pytest.raises(ValueError, match="found at run time"):
        _ = dynamic.range


@pytest.mark.on_jax
def test_half_precision_comes_in_and_goes_out():
    quantizer = ActivationQuantizer(tfc.ActivationSpec(), fixed=(0.0, 1.0))
    assert keras.backend.standardize_dtype(quantizer(ops.cast(values(), "float16")).dtype) == "float16"


@pytest.mark.on_jax
def test_an_activation_quantizer_is_saved_with_its_range(tmp_path):
    inputs = keras.Input((5,))
    model = keras.Model(inputs, ActivationQuantizer(tfc.ActivationSpec(bits=6), source="x", name="q")(inputs))
    model.get_layer("q").set_range(-1.0, 2.5)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras").get_layer("q")
    assert (loaded.range, loaded.spec.bits, loaded.source) == ((-1.0, 2.5), 6, "x")


@pytest.mark.parametrize("axis", [None, (3,), (2, 3)])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_lie_on_a_symmetric_grid(axis, bits):
    layer = keras.layers.Conv2D(4, 3)
    layer.build((None, 8, 8, 3))
    wrapper = with_transforms(layer, [(0, WeightQuantizer(tfc.WeightSpec(bits=bits), axis))])
    quantized = ops.convert_to_numpy(wrapper.transformed()[0])
    kernel = read(layer.kernel)
    others = tuple(i for i in range(4) if i not in (axis or ()))
    most = 2 ** (bits - 1) - 1
    scale = np.abs(kernel).max(axis=others, keepdims=True) / most
    np.testing.assert_allclose(quantized, np.round(kernel / scale) * scale, atol=1e-6)
    integers = quantized / scale
    assert np.abs(integers - np.round(integers)).max() < 1e-3
    assert np.round(integers).max() <= most and np.round(integers).min() >= -most


@pytest.mark.on_jax
def test_the_gradient_of_a_quantized_weight_passes_straight_through():
    layer = keras.layers.Dense(3, use_bias=False, name="dense")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layer(inputs))
    quantized = tfc.quantize(model, tfc.QuantizeConfig(weights=tfc.WeightSpec(bits=3), activations=None))
    quantized.compile(keras.optimizers.SGD(1.0), "mse")
    x, y = values((8, 4)), values((8, 3), seed=1)
    inner = quantized.get_layer("dense").layer
    before, seen = read(inner.kernel), quantized.predict(x, verbose=0)
    quantized.fit(x, y, batch_size=8, verbose=0)
    gradient = x.T @ (2 * (seen - y) / y.size)
    np.testing.assert_allclose(before - read(inner.kernel), gradient, atol=1e-5)


def test_mse_ranges_give_less_error():
    layer = keras.layers.Dense(6)
    layer.build((None, 400))
    layer.kernel.assign(np.random.default_rng(0).standard_t(3, size=(400, 6)).astype("float32"))
    kernel = read(layer.kernel)
    errors = {}
    for how in ("minmax", "mse"):
        transform = WeightQuantizer(tfc.WeightSpec(bits=4, range=how), (1,))
        wrapper = with_transforms(layer, [(0, transform)])
        transform.fit(kernel)
        errors[how] = np.square(ops.convert_to_numpy(wrapper.transformed()[0]) - kernel).mean()
    assert errors["mse"] < 0.7 * errors["minmax"]


def test_float16_weights():
    x = values()
    np.testing.assert_array_equal(
        ops.convert_to_numpy(Float16Weight().apply(ops.convert_to_tensor(x))), x.astype("float16").astype("float32")
    )
