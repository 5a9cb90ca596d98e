"""Integers that are chosen from data: next to the nearest, of less error, kept from run to run."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import tfcompress as tfc
from tfcompress.core.transform import read
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.quantization.ptq.kernel_products import ErrorStatistics, KernelProduct
from tfcompress.quantization.ptq.rounding_methods import AdaRound, Rounding

F = np.float32

LAYERS = {
    "dense": (L.Dense(5), (3, 6)),
    "einsum": (L.EinsumDense("abcd,cde->abe", output_shape=(None, 5), bias_axes="e"), (3, 4, 2)),
    "heads": (L.EinsumDense("abc,dec->aebd", output_shape=(2, None, 3)), (4, 6)),
    "conv1d": (L.Conv1D(4, 3, padding="causal", dilation_rate=2), (9, 3)),
    "conv2d": (L.Conv2D(4, (3, 2), strides=2, padding="same"), (7, 8, 3)),
    "grouped": (L.Conv2D(6, 3, groups=3), (6, 6, 6)),
    "depthwise": (L.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), (5, 6, 3)),
    "depthwise1d": (L.DepthwiseConv1D(3, strides=2), (8, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_products_and_its_error_the_quadratic_form(name):
    layer, shape = LAYERS[name]
    random = np.random.default_rng(0)
    x = random.normal(size=(10, *shape)).astype(F)
    y = ops.convert_to_numpy(layer(x))
    product = KernelProduct.of(layer)
    kernel = read(layer.kernel)
    matrices = product.matrices(kernel)
    np.testing.assert_array_equal(product.kernel(matrices), kernel)
    bias = read(layer.bias) if layer.bias is not None else None
    made = ops.einsum("rgk,gkn->rgn", product.inputs(ops.convert_to_tensor(x)), matrices)
    expected = product.outputs(ops.convert_to_tensor(y if bias is None else y - bias))
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)
    found = ErrorStatistics(product, matrices)
    wanted = (y + 0.1 * random.normal(size=y.shape)).astype(F)
    for part in (slice(0, 4), slice(4, 10)):
        found.add(ops.convert_to_tensor(x[part]), wanted[part], bias)
    other = (kernel + 0.1 * random.normal(size=kernel.shape)).astype(F)
    layer.kernel.assign(other)
    error = np.square(ops.convert_to_numpy(product.outputs(layer(x) - wanted))).mean(axis=0)
    layer.kernel.assign(kernel)
    np.testing.assert_allclose(found.error(product.matrices(other)), error, rtol=1e-4)


def statistics(inputs=24, outputs=6, seed=0):
    """Return statistics of correlated inputs, the kernel in units of its scale, and the scale."""
    random = np.random.default_rng(seed)
    layer = L.Dense(outputs, use_bias=False)
    layer.build((None, inputs))
    kernel = random.normal(size=(inputs, outputs)).astype(F)
    kernel[3] = 0
    x = (random.normal(size=(400, 4)) @ random.normal(size=(4, inputs)) + random.normal(size=(400, inputs))).astype(F)
    product = KernelProduct.of(layer)
    found = ErrorStatistics(product, product.matrices(kernel))
    found.add(ops.convert_to_tensor(x), ops.convert_to_tensor(x @ kernel))
    scale = np.broadcast_to(np.abs(kernel).max(0) / 7, kernel.shape).astype(F)
    return found, product.matrices(kernel / scale), product.matrices(scale)


@pytest.mark.parametrize("method", [tfc.AdaRound(steps=400), tfc.GPTQ()])
def test_the_error_of_a_layer_gets_smaller(method):
    found, scaled, scale = statistics()
    nearest = np.clip(np.rint(scaled), -7, 7)
    chosen = method.integers(found, scaled, scale, (-7, 7))
    assert found.error(chosen * scale).sum() < 0.6 * found.error(nearest * scale).sum()
    assert np.all(found.error(chosen * scale) <= found.error(nearest * scale))
    assert np.abs(chosen).max() <= 7 and np.array_equal(chosen, np.rint(chosen))
    assert (chosen[0, 3] == 0).all()
    if isinstance(method, AdaRound):
        assert np.abs(chosen - scaled).max() < 1
        again = method.integers(found, scaled, scale, (-7, 7))
        np.testing.assert_array_equal(again, chosen)


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype(F)


@pytest.fixture(scope="module")
def model():
    """Return a network of four kernels, some of whose weights are pruned."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(8, 3, use_bias=False, name="conv")(inputs)
    x = L.ReLU()(L.BatchNormalization()(x))
    x = L.SeparableConv2D(8, 3, activation="relu", name="separable")(x)
    return tfc.prune_once(keras.Model(inputs, L.Dense(4, name="logits")(L.Flatten()(x))), 0.3)


def integers(model):
    found = {}
    for layer in wrapped_layers(model):
        transform = layer.transforms[-1][1]
        found[layer.name] = transform.encode(ops.convert_to_numpy(layer.value_before(transform)))
    return found


def few(**weights):
    return tfc.QuantizeConfig(tfc.WeightSpec(bits=4, **weights), None)


def test_a_model_of_4_bits_is_nearer_to_the_float_model(model, data):
    """With each kind of range, which the grids keep."""
    configs = {
        "conv": few(range="mse"),
        "separable": few(range="learned"),
        "logits": few(granularity="per_tensor"),
    }
    configs = {name: tfc.QuantizeConfig(config.weights, tfc.ActivationSpec()) for name, config in configs.items()}
    plain, rounded = (
        tfc.quantize(model, configs, data),
        tfc.quantize(model, configs, data, rounding=AdaRound(steps=500)),
    )
    wanted = ops.convert_to_numpy(model(data))
    errors = [np.square(ops.convert_to_numpy(m(data)) - wanted).mean() for m in (plain, rounded)]
    assert errors[1] < 0.5 * errors[0]
    before, after = integers(plain), integers(rounded)
    assert len(after) == 4
    for name, found in after.items():
        np.testing.assert_allclose(found.scale, before[name].scale, rtol=1e-6)
        assert np.abs(found.integers.astype(int) - before[name].integers).max() == 1
    assert tfc.sparsity(rounded) >= 0.3


def test_what_a_killed_run_had_reached_is_taken_up(model, data, tmp_path, monkeypatch):
    calls = []

    def counted(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError("killed")
        return plain(self, *arguments)

    plain = AdaRound.integers
    monkeypatch.setattr(AdaRound, "integers", counted)
    method = AdaRound(steps=20, folder=tmp_path / "rounding")
    before = read(model.get_layer("conv").kernel)
    with pytest.raises(OSError, match="killed"):
        tfc.quantize(model, few(), data, rounding=method)
    assert len(list((tmp_path / "rounding").iterdir())) == 2
    np.testing.assert_array_equal(read(model.get_layer("conv").kernel), before)
    resumed = integers(tfc.quantize(model, few(), data, rounding=method))
    assert len(calls) == 5  # two layers were there
    monkeypatch.setattr(AdaRound, "integers", plain)
    whole = integers(tfc.quantize(model, few(), data, rounding=AdaRound(steps=20)))
    for name, found in whole.items():
        np.testing.assert_array_equal(resumed[name].integers, found.integers)
    tfc.quantize(model, few(), data[:32], rounding=method)  # of other data nothing is taken
    assert len(list((tmp_path / "rounding").iterdir())) == 8


def test_what_cannot_be_rounded_by_data_is_said(data):
    model = keras.Sequential([keras.Input((5, 3)), L.LSTM(4, name="lstm"), L.Dense(2, name="dense")])
    x = np.random.default_rng(0).normal(size=(32, 5, 3)).astype(F)
    with pytest.warns(UserWarning, match="The weights of 'lstm' are rounded to the nearest"):
        tfc.quantize(model, few(), x, rounding="gptq")
    clustered = tfc.cluster(keras.Sequential([keras.Input((3,)), L.Dense(2, name="dense")]), 3)
    with pytest.warns(UserWarning, match="The weights of 'dense' .* they are clustered"):
        tfc.quantize(clustered, few(), x[:, 0], rounding="gptq")
    with pytest.raises(ValueError, match="Expected weights of integers, .* leave rounding out"):
        tfc.quantize(model, "float16", x, rounding="gptq")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: tfc.quantize(m, "int8", rounding="adaround"), "Expected data with rounding='adaround'"),
        (lambda m: tfc.quantize(m, "int8", rounding="adarond"), "Did you mean 'adaround'"),
        (lambda m: tfc.AdaRound(steps=0), "Expected steps to be an integer of at least 1"),
        (lambda m: tfc.AdaRound(regularization=0), "Expected regularization to be a number above 0"),
        (lambda m: tfc.GPTQ(damping=-1), "Expected damping to be a number above 0"),
    ],
)
def test_bad_arguments(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)
    assert issubclass(tfc.GPTQ, Rounding)
