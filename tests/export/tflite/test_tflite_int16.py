"""Static 16 bits activations with 8 bits weights: the ranges are the model's own."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.export.tflite import test_tflite_int8 as eight
from tests.export.tiny import constants, convert, kernels, quantized, steps
from tfcompress.export.plan.scheme import Scheme
from tfcompress.export.tflite.flatbuffer import operators
from tfcompress.quantization.numerics.constant_range import FixedQuantizer

SIXTEEN = Scheme("static", 16)
NO_KERNEL = {"SUM", "HARD_SWISH", "GELU", "ELU", "EXP", "PRELU"}


@pytest.mark.parametrize("name", eight.ONE)
def test_one_input(name):
    samples, layer = eight.images(), eight.ONE[name]()
    model = quantized(eight.between(layer), samples, bits=16)
    content = convert(model, SIXTEEN)
    kind = "FLOAT32" if name.split()[0] in NO_KERNEL else "INT16"
    assert kernels(content)[name.split()[0]] == kind
    off = steps(model, content, samples)
    assert off.max() < 3
    assert (off < 1.01).mean() >= 0.95


@pytest.mark.parametrize("name", eight.TWO)
def test_two_inputs(name):
    samples = eight.images(2)
    samples[1] *= 0.8
    model = quantized(eight.between(eight.TWO[name]), samples, bits=16)
    content = convert(model, SIXTEEN)
    assert kernels(content)[name.split()[0]] == "INT16"
    off = steps(model, content, samples)
    assert off.max() < 3
    assert (off < 1.01).mean() >= 0.99


@pytest.mark.parametrize(
    ("function", "name", "most"),
    [(ops.softmax, "SOFTMAX", 3), (ops.sigmoid, "LOGISTIC", 3), (ops.tanh, "TANH", 6)],
)
def test_fixed_outputs(function, name, most):
    """Their kernels interpolate in tables."""
    samples = eight.images()
    model = quantized(lambda q, x: q(function(q(x)), -1, 1), samples, bits=16)
    content = convert(model, SIXTEEN)
    assert [op.name for op in operators(content)] == ["QUANTIZE", name, "DEQUANTIZE"]
    assert steps(model, content, samples).max() < most


def test_a_network_keeps_its_ranges():
    samples, made = eight.images(), eight.parts()
    model = quantized(lambda q, x: eight.network(q, x, made), samples, bits=16)
    content = convert(model, SIXTEEN)
    assert set(kernels(content).values()) == {"INT16"}
    assert steps(model, content, samples).max() < 4
    assert [integers.dtype for integers, _ in constants(content)] == [np.int8] * 4


def test_sums_that_may_overflow_32_bits_get_a_bias_of_64():
    samples = eight.images(shape=(600,))
    wide, narrow = layers.Dense(2), layers.Dense(3)
    model = quantized(lambda q, x: q(narrow(q(wide(q(x))))), samples, bits=16, bake_layers=False)
    wide.kernel.assign(np.full((600, 2), 0.01, "float32"))  # each the largest integer
    narrow.kernel.assign(np.full((2, 3), 0.5, "float32"))
    for layer in (wide, narrow):
        layer.bias.assign(np.full(layer.units, 0.25, "float32"))
    content = convert(model, SIXTEEN)
    assert [op.inputs for op in operators(content) if op.name == "FULLY_CONNECTED"] == [
        ("INT16", "INT8", "INT64"),
        ("INT16", "INT8", "INT32"),
    ]
    assert steps(model, content, samples).max() < 2


def test_a_range_with_a_zero_point_is_refused():
    inputs = keras.Input((4,), name="x")
    model = keras.Model(
        inputs, FixedQuantizer(-1, 1, bits=16, narrow=True)(ops.abs(FixedQuantizer(0, 2, bits=16)(inputs)))
    )
    with pytest.raises(ValueError, match="symmetric, narrow range"):
        convert(model, SIXTEEN)
