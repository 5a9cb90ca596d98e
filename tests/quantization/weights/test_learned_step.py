"""Weights whose scale is trained: where it begins, its gradient, and the same scale in files."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.core.transform import read
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.core.wrappers import with_transforms
from tfcompress.quantization.quantize_config import WeightSpec
from tfcompress.quantization.weights.learned_step import LearnedStep


def wrapped(bits, axis, kernel):
    layer = L.Dense(kernel.shape[1], use_bias=False)
    layer.build((None, kernel.shape[0]))
    layer.kernel.assign(kernel)
    transform = LearnedStep(WeightSpec(bits=bits, range="learned"), axis)
    wrapper = with_transforms(layer, [(0, transform)])
    transform.fit(wrapper.value_before(transform))
    return wrapper, transform


@pytest.mark.parametrize("axis", [None, (1,)])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_it_begins_as_lsq_does_and_encodes_what_it_applies(bits, axis):
    kernel = np.random.default_rng(0).standard_t(4, (300, 4)).astype("float32")
    kernel[::3] = 0  # as of a mask
    kernel[:, 2] = 0
    wrapper, transform = wrapped(bits, axis, kernel)
    highest = 2 ** (bits - 1) - 1
    for channel in range(1 if axis is None else 4):
        own = kernel if axis is None else kernel[:, channel]
        own = own[own != 0] if own.any() else kernel[:, 0][kernel[:, 0] != 0]
        wanted = min(2 * np.abs(own).mean() / np.sqrt(highest), np.abs(own).max() / highest)
        found = np.ravel(read(transform.start))[channel]
        if not (axis is not None and channel == 2):
            np.testing.assert_allclose(found, wanted, rtol=1e-6)
        assert found > 0
    made = transform.encode(kernel)
    np.testing.assert_array_equal(made.decode(), keras.ops.convert_to_numpy(wrapper.transformed()[0]))
    np.testing.assert_array_equal(made.scale.ravel(), np.ravel(read(transform.start)))
    assert made.bits == bits and (made.integers[::3] == 0).all()
    assert made.integers.min() == (-highest - 1 if bits < 4 else -highest) or bits == 8


@pytest.mark.on_jax
def test_the_gradient_of_the_scale_is_lsqs():
    random = np.random.default_rng(1)
    kernel = random.normal(size=(6, 3)).astype("float32")
    wrapper, transform = wrapped(2, (1,), kernel)
    inputs = keras.Input((6,))
    model = keras.Model(inputs, wrapper(inputs))
    x, y = random.normal(size=(8, 6)).astype("float32"), random.normal(size=(8, 3)).astype("float32")
    before, seen = read(transform.start).astype("float64"), model.predict(x, verbose=0)
    assert [v.path for v in model.trainable_variables] and len(model.trainable_variables) == 2
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.train_on_batch(x, y)
    upstream = x.T @ (2 * (seen - y) / y.size)
    v = kernel / before
    slope = np.where(v < -2, -2, np.where(v > 1, 1, np.rint(v) - v))
    np.testing.assert_allclose(
        before - before * read(transform.share), (upstream * slope).sum(0) / np.sqrt(6 * 1), rtol=1e-3, atol=1e-6
    )


def test_files_have_the_learned_scale_and_integers(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4), name="image")
    x = L.Conv2D(8, 3, use_bias=False, name="conv")(inputs)
    x = L.ReLU()(L.BatchNormalization(name="norm")(x))
    x = L.Conv2D(8, 3, activation="relu", name="second")(x)
    model = keras.Model(inputs, L.Dense(3, name="logits")(L.Flatten()(x)))
    model.get_layer("norm").gamma.assign([1, -1, 0.5, -2, 1, 1, 1, 1])  # what is -4 of 3 bits becomes 4 of 4
    config = tfc.QuantizeConfig(
        tfc.WeightSpec(bits=2, range="learned"), tfc.ActivationSpec(range="learned"), first_and_last_bits=3
    )
    data = np.random.default_rng(0).normal(size=(32, 8, 8, 4)).astype("float32")
    quantized = tfc.quantize(model, config, data)
    for layer in wrapped_layers(quantized):  # as if it were trained
        layer.transforms[0][1].share.assign(0.5 * read(layer.transforms[0][1].share))
    quantized.save(tmp_path / "m.keras")
    quantized = keras.models.load_model(tmp_path / "m.keras")
    widths = {layer.name: layer.transforms[0][1].spec.bits for layer in wrapped_layers(quantized)}
    assert widths == {"conv": 3, "second": 2, "logits_linear": 3}
    rows = {row.layer: (row.bits, row.config) for row in tfc.summary(quantized).rows if row.weight}
    assert rows["second"] == (2, "int8x2 learned weights learned activations")
    second = quantized.get_layer("second")
    learned = second.transforms[0][1].encode(read(second.layer.kernel))
    for kind in ("tflite", "onnx"):
        artifact = tfc.export(quantized, tmp_path / f"m.{kind}", verify=data, require_integer=True)
        assert artifact.parity.samples == 32
        planned = {one.layer: one.weights[0].encoding for one in artifact.plan.operators if one.weights}
        found = planned["second"]
        np.testing.assert_array_equal(np.sort(found.integers.ravel()), np.sort(learned.integers.ravel()))
        np.testing.assert_array_equal(found.scale.ravel(), learned.scale.ravel())
        assert found.bits == 2 and np.unique(found.integers).tolist() == [-2, -1, 0, 1]
