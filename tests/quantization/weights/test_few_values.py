"""Binary and ternary weights: the papers' values, zeros of masks, gradients straight through, files."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tests.quantization.numerics.test_fake_quant import pull
from tfcompress.quantization.ranges.weight_limits import weight_limit
from tfcompress.quantization.weights.few_values import FewValues


@pytest.mark.on_jax
@pytest.mark.parametrize("axis", [None, (1,)])
@pytest.mark.parametrize("kind", ["binary", "ternary"])
def test_values_and_gradients(kind, axis):
    x = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
    x[::4] = 0
    x[:, 2] = 0
    transform = FewValues(tfc.WeightSpec(range=kind), axis)
    upstream = np.random.default_rng(1).normal(size=x.shape).astype("float32")
    value, (gradient,) = pull(transform.apply, (x,), upstream)
    np.testing.assert_array_equal(gradient, upstream)
    for own, made in zip(x.T, value.T, strict=True) if axis else [(x, value)]:
        size = np.abs(own[own != 0])
        if not size.size:
            assert not made.any()
            continue
        least = 0 if kind == "binary" else 0.7 * size.mean()
        wanted = np.where(np.abs(own) > least, np.sign(own) * size[size > least].mean(), 0)
        np.testing.assert_allclose(made, wanted, rtol=1e-5)
        if kind == "binary":  # no other size has a smaller error
            errors = [np.square(own - np.sign(own) * size.mean() * part).sum() for part in (0.99, 1, 1.01)]
            assert errors[1] == min(errors)
    encoded = transform.encode(x)
    np.testing.assert_allclose(encoded.decode(), value, rtol=1e-6)
    assert encoded.bits == 2 and set(np.unique(encoded.integers)) == {-1, 0, 1}
    np.testing.assert_allclose(weight_limit(x, axis, 2, kind), keras.ops.convert_to_numpy(transform.limit(x)))


def test_both_files_hold_signs(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 4), name="image")
    x = L.Conv2D(8, 3, use_bias=False, name="first")(inputs)
    x = L.Conv2D(8, 3, activation="relu", name="second")(L.ReLU()(L.BatchNormalization()(x)))
    model = keras.Model(inputs, L.Dense(3, name="last")(L.Flatten()(x)))
    data = np.random.default_rng(0).normal(size=(32, 6, 6, 4)).astype("float32")
    ternary = tfc.QuantizeConfig(tfc.WeightSpec(range="ternary"), first_and_last_bits=8)
    binary = tfc.QuantizeConfig(tfc.WeightSpec(range="binary"))
    quantized = tfc.quantize(model, {"second": ternary, "last": binary, ".*": ternary}, data)
    for kind in ("tflite", "onnx"):
        artifact = tfc.export(quantized, tmp_path / f"m.{kind}", verify=data, require_integer=True)
        found = {one.layer: one.weights[0].encoding for one in artifact.plan.operators if one.weights}
        assert {name: encoding.bits for name, encoding in found.items()} == {"first": 8, "second": 2, "last_linear": 2}
        assert set(np.unique(found["second"].integers)) == {-1, 0, 1}
        assert set(np.unique(found["last_linear"].integers)) == {-1, 1}


def test_other_bits_are_refused():
    assert tfc.WeightSpec(range="binary") == tfc.WeightSpec(bits=2, range="binary")
    with pytest.raises(ValueError, match="Expected bits=2, or none, with range='ternary'. Received: bits=4"):
        tfc.WeightSpec(bits=4, range="ternary")
