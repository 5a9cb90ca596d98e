import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcompress.quantization.numerics import fake_quant, tensorflow_kernels

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
        start, end, *_ = fake_quant.nudge(low, high, bits, narrow)
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
