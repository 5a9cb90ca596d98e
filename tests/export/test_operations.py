"""Operations of keras.ops in both formats, many as the outputs of one model: equal on values that tell."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops

from tests.check import in_turn
from tfcompress.export import export

INTEGERS = np.array([[-100, -7, -3, -1, 0, 2, 5, 99], [99, 5, 2, 0, -1, -3, -7, -100]])
DIVISORS = np.array([[-3, 2, -5, 7, 4, -2, 3, -7], [3, -2, 5, -7, -4, 2, -3, 7]])
FLOATS = np.array(
    [[-2.5, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5, 3.7], [-3.2, -1.0, -0.3, 0.4, 0.9, 2.0, 0.001, 0.3]], "float32"
)


def check(outputs, data, path, **how):
    """Export a model of many outputs; compare each with Keras, integers exactly."""

    class Many(L.Layer):
        def call(self, tensors):
            return outputs(*tensors)

    inputs = [keras.Input(x.shape[1:], dtype=str(x.dtype)) for x in data]
    model = keras.Model(inputs, Many(name="many")(inputs))
    given = list(data)
    artifact = export(model, path, verify=given, **how)
    received = artifact.predict(given)
    received = list(received.values()) if isinstance(received, dict) else [received]
    for place, (mine, keras_own) in enumerate(zip(received, keras.tree.flatten(model(given)), strict=True)):
        expected = np.asarray(keras_own)
        assert mine.dtype == expected.dtype, place
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=2e-6, err_msg=str(place))
        else:
            np.testing.assert_array_equal(mine, expected, err_msg=str(place))


@pytest.mark.parametrize(
    ("dtype", "suffix"), in_turn(["int8", "uint8", "int16", "int32", "int64"], [".tflite", ".onnx"])
)
def test_arithmetic_of_integers(dtype, suffix, tmp_path):
    a, b = (np.abs(x) if dtype == "uint8" else x for x in (INTEGERS, DIVISORS))

    def outputs(x, y):
        three = ops.cast(3, dtype)
        found = [x + y, x - y, x * y, ops.floor_divide(x, y), ops.mod(x, y), ops.maximum(x, y), ops.abs(x), ops.sign(x)]
        found += [
            ops.clip(x, three, 9),
            ops.clip(x, 0, 6),
            ops.equal(x, y),
            ops.less(x, y),
            ops.argmax(x, -1),
            ops.max(x, -1),
        ]
        found += [ops.square(x), ops.right_shift(x, ops.cast(y * 0 + 2, dtype)), ops.one_hot(ops.cast(x, "int32"), 6)]
        found += [
            ops.flip(x, -1),
            ops.tile(x, [1, 2]),
            ops.pad(x, [[0, 0], [1, 2]]),
            ops.cumsum(x, -1),
            ops.cumprod(x, -1),
        ]
        found += [
            ops.cumprod(x, -1),
            ops.where(x > three, x, y),
            ops.bitwise_not(x),
            ops.reshape(ops.searchsorted(ops.cast([0, 2, 3], dtype), ops.reshape(x, (-1,))), (-1, 8)),
        ]
        return (
            found if dtype == "int64" else [*found, ops.bitwise_and(x, y), ops.bitwise_or(x, y), ops.bitwise_xor(x, y)]
        )

    check(outputs, (a.astype(dtype), b.astype(dtype)), tmp_path / f"model{suffix}")


def test_large_integers_are_divided_exactly(tmp_path):
    a = np.array([[2**62 + 12345, -(2**62) - 1, 2**63 - 1, -(2**63) + 1, 2**40 + 1, 99_999_999_999, -7, 7]])
    b = np.array([[3, 7, -1, 5, -(2**20), 2**39 + 3, 2, -2]])
    check(
        lambda x, y: [x // y, x // 3, x // -1000],
        (np.concatenate([a, -a]), np.concatenate([b, b])),
        tmp_path / "m.tflite",
    )


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_functions_of_floats(suffix, tmp_path):
    def outputs(x):
        found = [ops.floor_divide(x, 0.3), ops.mod(x, 0.7), ops.mod(x, -0.7), ops.round(x), ops.logaddexp(x, -x)]
        found += [ops.expm1(x), ops.log1p(ops.abs(x)), ops.sinh(x), ops.cosh(x), ops.tan(x), ops.celu(x), ops.erf(x)]
        found += [ops.digitize(x, [-1.0, 0.0, 0.5]), ops.cumprod(x, axis=1), ops.gelu(x, approximate=False)]
        found += [ops.where(x > 0, ops.log(ops.relu(x)), x), ops.cast(x, "int32"), ops.cast(x, "bool"), ops.sinc(x)]
        strange = ops.log(ops.where(x > 1, x, ops.where(x < -1, -1.0, 0.0)))  # some NaN, some infinite
        found += [ops.nan_to_num(strange), ops.isinf(strange), ops.isfinite(strange), ops.isnan(strange)]
        return found

    check(outputs, (FLOATS,), tmp_path / f"model{suffix}")


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_fourier_transforms(suffix, tmp_path):
    def outputs(x):
        found = [*ops.rfft(x), *ops.rfft(x, 6), *ops.rfft(x, 12), *ops.fft((x, ops.tanh(x)))]
        found += [ops.irfft((x[:, :5], ops.tanh(x[:, 3:]))), *ops.stft(ops.tile(x, (1, 4)), 8, 4, 8)]
        image = ops.reshape(x, (-1, 2, 4))
        return [*found, *ops.fft2((image, image)), *ops.ifft2((image, 2.0 * image))]

    check(outputs, (FLOATS,), tmp_path / f"model{suffix}")


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_complex_numbers(suffix, tmp_path):
    def outputs(x):
        x = x / 8.0
        z, image = tf.signal.rfft(x), tf.reshape(x, (-1, 2, 4))
        spectrum = tf.signal.fft2d(tf.cast(image, tf.complex64))
        mixed = tf.concat([spectrum, spectrum / tf.complex(image + 9.0, image)], axis=-1)
        found = [
            tf.signal.fftshift(mixed, [-1]),
            tf.reverse(mixed, [1])[:, 0],
            tf.reduce_mean(mixed, 1),
            tf.stack([z, z], 1),
        ]
        found += [tf.matmul(mixed, mixed, adjoint_b=True), tf.einsum("bij,bkj->bik", mixed, mixed), tf.exp(z / 9.0)]
        found += [tf.unstack(z, axis=-1)[2], tf.split(mixed, 2, -1)[1], tf.where(image > 0, spectrum, 1j), z * z + 1j]
        found += [tf.signal.rfft2d(image, [3, 4]), tf.signal.fft3d(mixed[..., None] * [1.0 + 0j, 1j])]
        parts = [part(y) for y in found for part in (tf.math.real, tf.math.imag)]
        parts += [tf.signal.irfft2d(tf.signal.rfft2d(image) * 2j), tf.math.angle(z + 1j), tf.cast(spectrum, "float32")]
        return [*parts, tf.signal.dct(x), tf.roll(x, [tf.shape(x)[1] // 3], [1]), tf.roll(image, [1, -3], [2, 1])]

    check(outputs, (FLOATS,), tmp_path / f"model{suffix}")


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_fourier_transforms_of_free_lengths(suffix, tmp_path):
    class Mixed(L.Layer):
        def call(self, x):
            z = tf.cast(x, tf.complex64)
            there_and_back = tf.signal.irfft(tf.signal.rfft(tf.transpose(x, (0, 2, 1)), [7]), [9])
            return [tf.math.real(tf.signal.fft2d(z)), tf.math.imag(tf.signal.ifft(z)), there_and_back]

    inputs = keras.Input((None, 6))
    model = keras.Model(inputs, Mixed()(inputs))
    x = np.sin(np.arange(48, dtype="float32")).reshape(2, 4, 6)
    artifact = export(model, tmp_path / f"model{suffix}", verify=x)
    for given in (x, x.reshape(1, 8, 6)) if suffix == ".onnx" else (x,):
        for name, expected in zip(artifact.outputs, model(given), strict=True):
            np.testing.assert_allclose(artifact.predict(given)[name], expected, atol=2e-6)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_a_spectrogram(suffix, tmp_path):
    inputs = keras.Input((64,))
    model = keras.Model(inputs, L.MelSpectrogram(fft_length=32, sequence_stride=16, num_mel_bins=8)(inputs))
    assert export(model, tmp_path / f"model{suffix}").parity.outputs["mel_spectrogram"].max_rel < 1e-4


def test_values_are_added_where_several_have_one_place(tmp_path):
    places = np.array([[1], [3], [1], [0], [4], [2], [2], [5]])
    inputs = keras.Input((8,))
    outputs = ops.reshape(ops.scatter(places, ops.reshape(inputs, (8,)), (6,)), (1, 6))
    model = keras.Model(inputs, outputs)
    for suffix in (".tflite", ".onnx"):
        export(model, tmp_path / f"model{suffix}", batch_size=1, verify=FLOATS[:1])


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_loops_and_conditions_are_looked_into(suffix, tmp_path):
    class Loop(L.Layer):
        def call(self, x):
            x = ops.fori_loop(0, 3, lambda i, y: ops.floor_divide(y, -2) + i, x)
            return ops.cond(ops.sum(x) > 0, lambda: ops.mod(x, 3), lambda: ops.mod(x, -3))

    check(Loop(), (INTEGERS.astype("int32"),), tmp_path / f"model{suffix}", batch_size=2)
