import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcompress.quantization.numerics import fake_quant, nudging, tensorflow_kernels

F = np.float32

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's kernels")


def both(x, low, high, upstream, **how):
    """The values and the gradients of a quantizer with a given range."""
    x, low, high = (tf.constant(value) for value in (x, low, high))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = fake_quant.fake_quant_given(x, low, high, **how)
    return value.numpy(), tape.gradient(value, x, output_gradients=tf.constant(upstream)).numpy()


RANGES = {"both": (-1.3, 2.1), "from zero": (0, 2.7), "to zero": (-0.3, 0), "wide": (-3e30, 1e30), "narrow": (-1e-6, 0)}
RANGES |= {"empty": (0, 0), "symmetric": (-1.7, 1.7), "nearly empty": (-1e-31, 0), "behind a ReLU": (-0.01, 6)}


@pytest.mark.parametrize("bits, narrow", [(2, False), (4, True), (8, False), (8, True), (16, False)])
def test_values_and_gradients_are_bit_by_bit_those_without_the_kernels(monkeypatch, bits, narrow):
    rng = np.random.default_rng(bits)
    for name, ends in RANGES.items():
        low, high = F(ends)
        step = (high - low) / F(2**bits - 1 - narrow)
        start, end, *_ = nudging.nudge(low, high, bits, narrow)
        x = np.concatenate(
            [
                rng.normal(size=4000).astype(F) * (high - low + F(1e-3) * (high == low)),
                (rng.integers(-(2**bits), 2**bits, 2000) + rng.choice([-0.5, 0, 0.5], 2000)).astype(F) * step,
                np.nextafter(F([start, end, start, end]), F([-np.inf, -np.inf, np.inf, np.inf])),
                F([start, end, 0, -0.0, np.inf, -np.inf, np.nan, 1e-45]),
            ]
        )
        for nonnegative in (False, True):
            given = x[~(x < 0)] if nonnegative else x
            upstream = rng.normal(size=given.shape).astype(F)
            how = {"bits": bits, "narrow": narrow, "nonnegative": nonnegative}
            assert tensorflow_kernels.available()
            own = both(given, low, high, upstream, **how)
            with monkeypatch.context() as patch:
                patch.setattr(tensorflow_kernels, "available", lambda: False)
                expected = both(given, low, high, upstream, **how)
            for one, other in zip(own, expected, strict=True):
                np.testing.assert_array_equal(one, other, err_msg=name)
            assert np.isnan(own[0]).sum() == 1 and (own[1] == upstream).any()


@pytest.mark.parametrize("relu, gradient_of_its_own", [(tf.nn.relu, "ReluGrad"), (tf.nn.relu6, "Relu6Grad")])
@pytest.mark.parametrize("ends", [(0.0, 4.0), (0.0, 9.0), (-1.0, 3.0), (0.0, 0.0)])
def test_one_mask_serves_for_a_relu_and_the_quantizer_behind_it(relu, gradient_of_its_own, ends):
    rng = np.random.default_rng(0)
    below, above = (np.nextafter(F([*ends, 6, 0]), F(side)) for side in (-np.inf, np.inf))
    x = np.concatenate([rng.normal(size=4000).astype(F) * 5, F([*ends, 6, 0, -0.0, np.inf, np.nan]), below, above])
    upstream = rng.normal(size=x.shape).astype(F)

    def gradient(past_relu, from_number):
        @tf.function
        def computed(x, upstream):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = relu(x)
                low = ends[0] if from_number else tf.constant(F(ends[0]))
                how = {"nonnegative": True, "past_relu": past_relu}
                y = y + fake_quant.fake_quant_given(y, low, tf.constant(F(ends[1])), **how)
            return y, tape.gradient(y, x, output_gradients=upstream)

        return computed

    def kinds(function):
        return [op.type for op in function.get_concrete_function(x, upstream).graph.get_operations()]

    expected = gradient(False, False)(x, upstream)
    for from_number in (False, True):
        for one, other in zip(gradient(True, from_number)(x, upstream), expected, strict=True):
            np.testing.assert_array_equal(one, other)
    found = kinds(gradient(True, True))
    assert found.count(gradient_of_its_own) == 1, "that of the sum alone is left"
    if ends[0] == 0 and relu is tf.nn.relu:
        assert "Minimum" not in found, "the kernel saturates by itself"


@pytest.mark.parametrize("nonnegative", [False, True])
def test_gradients_have_gradients(nonnegative):
    x, weight = tf.constant(F([0.5, 2.0, 0.1])), tf.constant(F([3.0, 5.0, 7.0]))
    with tf.GradientTape() as outer:
        outer.watch(weight)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = weight**2 * fake_quant.fake_quant_given(x, F(0), F(1), nonnegative=nonnegative)
        gradient = inner.gradient(value, x)
    np.testing.assert_allclose(gradient, [9, 0, 49])
    np.testing.assert_allclose(outer.gradient(gradient, weight), [6, 0, 14])


def test_what_xla_compiles_does_without_them():
    x = tf.constant(F([0.5, np.nan, 3.0]))

    def quantized(x):
        return fake_quant.fake_quant_given(x, tf.constant(F(0)), tf.constant(F(1)))

    def operations(function):
        return {op.type for op in function.get_concrete_function(x).graph.get_operations()}

    outer = tf.function(tf.function(quantized), jit_compile=True)
    np.testing.assert_array_equal(outer(x), quantized(x))
    assert "QuantizeAndDequantizeV2" in operations(tf.function(quantized))
    assert "QuantizeAndDequantizeV2" not in operations(tf.function(quantized, jit_compile=True))
