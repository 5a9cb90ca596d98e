"""Ranges behind leaky ReLUs, with which files compute what the model does."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.ptq import leaky_relu_ranges as leaky_relu


@pytest.mark.parametrize(
    ("layer", "slope", "low", "high"),
    [
        (lambda: L.LeakyReLU(0.25), 0.25, -6.13, 2.6),
        (lambda: L.LeakyReLU(0.3), 0.3, -7.71, 5.94),
        (lambda: L.Activation("leaky_relu"), 0.2, -1.51, 3.52),
        (lambda: lambda x: keras.ops.leaky_relu(x, 0.1), 0.1, -4.62, 0.71),
    ],
    ids=["quarter", "layer", "activation", "operation"],
)
def test_next_to_no_integer_is_off_behind_a_leaky_relu(layer, slope, low, high, tmp_path):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, layer()(inputs))
    quantized = tfc.quantize(model, "int8", data=np.linspace(low, high, 1001, dtype="float32")[:, None])
    before, behind = activation_quantizers(quantized)
    least = high - slope * low
    assert least <= behind.range[1] - behind.range[0] <= 1.05 * least
    x = (np.arange(-300, 301) * np.float32(before.scale)).astype("float32")[:, None]
    expected = quantized.predict(x, verbose=0, batch_size=len(x))
    np.testing.assert_allclose(expected, np.clip(model(x), slope * low, high), atol=1.05 * float(before.scale))
    for suffix in (".tflite", ".onnx"):
        artifact = tfc.export(quantized, tmp_path / f"model{suffix}", verify=x, batch_size=len(x))
        off = np.abs(artifact.predict(x) - expected) / float(behind.scale)
        assert off.max() < 1.01
        assert np.mean(off > 0.5) < 0.015


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.01, 0.2, 0.3])
def test_aligned_ranges_hold_what_they_held(slope, symmetric):
    random = np.random.default_rng(0)
    for _ in range(50):
        low, high = -random.uniform(0, 8), random.uniform(0.01, 8)
        limit = max(-low, high)
        given = (-limit, limit) if symmetric else (low, high)
        ends = (-limit, limit) if symmetric else (slope * low, high)
        found = leaky_relu.aligned(ends, given, slope, symmetric)
        step = (found[1] - found[0]) / (254 if symmetric else 255)
        assert found[0] <= ends[0] + 0.01 * step
        assert found[1] >= ends[1] - 0.01 * step
        assert found[1] - found[0] <= 1.05 * (ends[1] - ends[0])
    assert leaky_relu.aligned((0.0, 0.0), (0.0, 1.0), slope) == (0.0, 0.0)
