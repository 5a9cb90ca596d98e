"""Each arithmetic gives, for random integers, those that its runtimes give."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from keras import layers

from tests.quantization.arithmetic.single_operators import Tensor, in_litert, in_micro, in_onnx_runtime, tflite
from tfcompress.quantization.arithmetic.choice import ARITHMETICS
from tfcompress.quantization.graph.average_windows import Windows
from tfcompress.quantization.graph.resized_integers import resized

SHAPE = (1, 7, 7, 64)
SAMPLES = 6
MICRO = importlib.util.find_spec("tflite_micro") is not None

XNNPACK, REFERENCE, ONNX_RUNTIME = (ARITHMETICS[name] for name in ("xnnpack", "reference", "onnxruntime"))


class Draw:
    """Random integers and scales."""

    def __init__(self, seed: int):
        self.random = np.random.default_rng(seed)

    def integers(self, *shape: int) -> np.ndarray:
        return self.random.integers(-128, 128, shape).astype(np.int8)

    def scale(self, low: float = -3, high: float = 0) -> Any:
        return np.float32(10 ** self.random.uniform(low, high))

    def zero_point(self) -> int:
        return int(self.random.integers(-128, 128))


def on_grid(whole: Any, zero_point: int) -> np.ndarray:
    return np.clip(np.asarray(whole).astype(int) + zero_point, -128, 127)


def centred(x: np.ndarray, zero_point: int) -> np.ndarray:
    return x.astype(np.float32) - zero_point


def check_tflite(
    content: bytes, inputs: list[np.ndarray], expected: dict[str, np.ndarray], dense: bool = False
) -> None:
    np.testing.assert_array_equal(in_litert(content, inputs), expected["xnnpack"])
    if not dense:  # LiteRT's own dense layer rounds once
        np.testing.assert_array_equal(in_litert(content, inputs, reference=True), expected["reference"])
    if MICRO:
        np.testing.assert_array_equal(in_micro(content, inputs), expected["reference"])


def both(compute: Any, zero_point: int) -> dict[str, np.ndarray]:
    return {one.name: on_grid(compute(one), zero_point) for one in (XNNPACK, REFERENCE)}


@pytest.mark.parametrize("seed", range(SAMPLES))
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
def test_operators_of_two_tensors(kind: str, seed: int) -> None:
    draw = Draw(seed)
    first, second = draw.scale(), draw.scale()
    output = np.float32(max(draw.scale(), max(first, second) / 200))
    output = np.float32(first * second * draw.scale(1, 3)) if kind == "MUL" else output
    zeros = draw.zero_point(), draw.zero_point(), draw.zero_point()
    scales = (first, second, output)
    x, y = draw.integers(*SHAPE), draw.integers(*SHAPE)
    a, b = centred(x, zeros[0]), centred(y, zeros[1])

    def compute(arithmetic: Any) -> Any:
        if kind == "MUL":
            return arithmetic.multiplied(a, b, (first, second), output)
        return arithmetic.added(a, b, (first, second), output, 1 if kind == "ADD" else -1)

    options = {"ADD": {"kind": "AddOptions", "potScaleInt16": False}, "SUB": {"kind": "SubOptions"}}
    tensors = [Tensor(SHAPE, scale, zero) for scale, zero in zip(scales, zeros, strict=True)]
    version = 3 if kind == "MUL" and first * second >= output else 2
    content = tflite(kind, version, tensors, options.get(kind, {"kind": "MulOptions"}))
    check_tflite(content, [x, y], both(compute, zeros[2]))
    if kind != "SUB":
        u8 = [(values.astype(int) + 128).astype(np.uint8) for values in (x, y)]
        parts = [part for scale, zero in zip(scales, zeros, strict=True) for part in (scale, np.uint8(zero + 128))]
        constants = [None, *parts[:2], None, *parts[2:]]
        received = in_onnx_runtime(f"QLinear{kind.title()}", u8, constants) - 128
        np.testing.assert_array_equal(received, on_grid(compute(ONNX_RUNTIME), zeros[2]))


@pytest.mark.parametrize("seed", range(SAMPLES))
def test_means_over_an_image(seed: int) -> None:
    draw = Draw(seed)
    scale, zero, zero_behind = draw.scale(), draw.zero_point(), draw.zero_point()
    output = np.float32(scale * draw.scale(-1.5, 0.3))
    x = draw.integers(*SHAPE)
    sums, count = centred(x, zero).sum((1, 2)), 49

    def compute(arithmetic: Any) -> Any:
        return arithmetic.averaged(sums, count, scale, output)

    axes = Tensor((2,), values=np.array([1, 2], np.int32))
    tensors = [Tensor(SHAPE, scale, zero), axes, Tensor((1, 64), output, zero_behind)]
    content = tflite("MEAN", 2, tensors, {"kind": "ReducerOptions", "keepDims": False})
    check_tflite(content, [x], both(compute, zero_behind))
    constants = [None, scale, np.uint8(zero + 128), output, np.uint8(zero_behind + 128)]
    u8 = (x.astype(int) + 128).astype(np.uint8)
    received = in_onnx_runtime("QLinearGlobalAveragePool", [u8], constants, channels_last=1)[:, 0, 0] - 128
    np.testing.assert_array_equal(received, on_grid(compute(ONNX_RUNTIME), zero_behind))


@pytest.mark.parametrize("seed", range(SAMPLES))
@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_kernels(kind: str, seed: int) -> None:
    draw = Draw(seed)
    shape, channels = ((1, 64), 40) if kind == "FULLY_CONNECTED" else ((1, 6, 6, 8), 8)
    scale, zero, zero_behind = draw.scale(), draw.zero_point(), draw.zero_point()
    of_weights = np.array([draw.scale(-4, -2) for _ in range(channels)], np.float32)
    sizes = {"CONV_2D": (channels, 1, 1, 8), "DEPTHWISE_CONV_2D": (1, 1, 1, 8), "FULLY_CONNECTED": (channels, 64)}[kind]
    weights = np.maximum(draw.integers(*sizes), -127)
    bias = draw.random.integers(-3000, 3000, channels).astype(np.int32)
    x = draw.integers(*shape)
    a, w = centred(x, zero), weights.astype(np.float32)
    sums = a * w.reshape(-1) if kind == "DEPTHWISE_CONV_2D" else a @ w.reshape(channels, -1).T
    sums = (sums + bias).astype(np.float32)
    output = np.float32(np.abs(sums * scale * of_weights).max() / 300)

    def compute(arithmetic: Any) -> Any:
        return arithmetic.requantized(sums, scale, of_weights, output)

    axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
    tensors = [
        Tensor(shape, scale, zero),
        Tensor(sizes, of_weights, 0, weights, axis),
        Tensor((channels,), scale * of_weights, 0, bias),
        Tensor(sums.shape, output, zero_behind),
    ]
    strides: dict[str, Any] = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
    options = {
        "CONV_2D": {"kind": "Conv2DOptions", **strides},
        "DEPTHWISE_CONV_2D": {"kind": "DepthwiseConv2DOptions", "depthMultiplier": 1, **strides},
        "FULLY_CONNECTED": {"kind": "FullyConnectedOptions"},
    }[kind]
    content = tflite(kind, 4 if kind == "FULLY_CONNECTED" else 3, tensors, options)
    check_tflite(content, [x], both(compute, zero_behind), dense=kind == "FULLY_CONNECTED")
    if kind == "CONV_2D":
        u8 = (x.astype(int) + 128).astype(np.uint8).transpose(0, 3, 1, 2)
        parts = [w.transpose(0, 3, 1, 2).astype(np.int8), of_weights, np.zeros(channels, np.int8)]
        behind = [output, np.uint8(zero_behind + 128), bias]
        constants = [None, scale, np.uint8(zero + 128), *parts, *behind]
        received = in_onnx_runtime("QLinearConv", [u8], constants).transpose(0, 2, 3, 1) - 128
        np.testing.assert_array_equal(received, on_grid(compute(ONNX_RUNTIME), zero_behind))


ALL = np.arange(-128, 128).astype(np.int8).reshape(1, 16, 16, 1)
"""Every integer of 8 bits."""


@pytest.mark.parametrize("seed", range(SAMPLES))
@pytest.mark.parametrize("kind", ["LEAKY_RELU", "QUANTIZE"])
def test_operators_of_one_tensor(kind: str, seed: int) -> None:
    draw = Draw(seed)
    scale, zero, zero_behind = draw.scale(), draw.zero_point(), draw.zero_point()
    output = np.float32(scale * draw.scale(-0.3, 0.3))
    slope = np.float32(draw.random.uniform(0.05, 0.5))
    x = centred(ALL, zero)

    def compute(arithmetic: Any) -> Any:
        leaky = kind == "LEAKY_RELU"
        return arithmetic.sloped(x, slope, scale, output) if leaky else arithmetic.regridded(x, scale, output)

    tensors = [Tensor(ALL.shape, scale, zero), Tensor(ALL.shape, output, zero_behind)]
    options = {"kind": "LeakyReluOptions", "alpha": float(slope)} if kind == "LEAKY_RELU" else None
    check_tflite(tflite(kind, 2, tensors, options), [ALL], both(compute, zero_behind))


@pytest.mark.parametrize(
    ("kind", "function", "output", "zero_behind"),
    [
        ("LOGISTIC", lambda x: 1 / (1 + np.exp(-x)), 1 / 256, -128),
        ("TANH", np.tanh, 1 / 128, 0),
        ("ELU", lambda x: np.where(x < 0, np.expm1(x), x), 0.011, -40),
    ],
)
def test_tables_hold_the_rounded_function(kind: str, function: Any, output: float, zero_behind: int) -> None:
    scale, zero = np.float32(0.0123), -7
    expected = on_grid(np.rint(function(centred(ALL, zero) * np.float64(scale)) / np.float32(output)), zero_behind)
    tensors = [Tensor(ALL.shape, scale, zero), Tensor(ALL.shape, output, zero_behind)]
    content = tflite(kind, 1 if kind == "ELU" else 2, tensors)
    np.testing.assert_array_equal(in_litert(content, [ALL]), expected)
    if MICRO:
        np.testing.assert_array_equal(in_micro(content, [ALL]), expected)


def test_sums_beyond_float32_are_rounded_as_integers() -> None:
    sums = np.array([2.0**24 + 1, -(2.0**24) - 3], np.float64)
    one, two = np.float32([1, 2])
    assert np.asarray(REFERENCE.requantized(sums, one, one, two)).tolist() == [8388609, -8388609]
    assert np.asarray(XNNPACK.requantized(sums, one, one, two)).tolist() == [8388608, -8388610]


def test_halves_go_to_even_in_one_runtime_and_up_or_away_from_zero_in_another() -> None:
    sums, one, two, four = np.float32([1, 3, 5, -1, -3]), *np.float32([1, 2, 4])
    for arithmetic in (XNNPACK, ONNX_RUNTIME):
        assert np.asarray(arithmetic.requantized(sums, one, one, two)).tolist() == [0, 2, 2, 0, -2]
    assert np.asarray(REFERENCE.requantized(sums, one, one, two)).tolist() == [1, 2, 3, 0, -1]
    assert np.asarray(REFERENCE.requantized(2 * sums, one, one, four)).tolist() == [1, 2, 3, -1, -2]


@pytest.mark.parametrize("seed", range(SAMPLES))
def test_softmax(seed: int) -> None:
    draw = Draw(seed)
    scale, zero, shape = draw.scale(-2.5, -0.2), draw.zero_point(), (1000, (2, 10, 17, 64, 100, 300)[seed])
    spread = draw.random.normal(0, 20, shape).round() if seed % 2 else draw.random.integers(-128, 128, shape)
    x = np.clip(spread, -128, 127).astype(np.int8)
    expected = {one.name: on_grid(one.softmax(centred(x, zero), scale), -128) for one in ARITHMETICS.values()}
    tensors = [Tensor(shape, scale, zero), Tensor(shape, 1 / 256, -128)]
    content = tflite("SOFTMAX", 2, tensors, {"kind": "SoftmaxOptions", "beta": 1.0})
    check_tflite(content, [x], expected)
    constants = [None, scale, np.uint8(zero + 128), np.float32(1 / 256), np.uint8(0)]
    u8 = (x.astype(int) + 128).astype(np.uint8)
    received = in_onnx_runtime("QLinearSoftmax", [u8], constants, axis=-1, opset=13) - 128
    np.testing.assert_array_equal(received, expected["onnxruntime"])


@pytest.mark.parametrize("seed", range(SAMPLES))
def test_products_of_two_tensors(seed: int) -> None:
    """The scales are powers of two, so that many sums lie between two integers."""
    draw = Draw(seed)
    zeros = draw.zero_point(), draw.zero_point() * (seed % 2), draw.zero_point()
    x, y = draw.integers(3, 40, 5), draw.integers(3, 5, 40)
    scales, output = (np.float32(0.125), np.float32(0.0625)), np.float32(2**4 if seed < 4 else 15.9)
    sums = centred(x, zeros[0]) @ centred(y, zeros[1])

    def compute(arithmetic: Any) -> Any:
        return arithmetic.product(sums, scales, output, zeros[1] == 0)

    shapes, of_all = (x.shape, y.shape, sums.shape), (*scales, output)
    tensors = [Tensor(*one) for one in zip(shapes, of_all, zeros, strict=True)]
    options = {"kind": "BatchMatMulOptions", "adjX": False, "adjY": False}
    check_tflite(tflite("BATCH_MATMUL", 3, tensors, options), [x, y], both(compute, zeros[2]))
    u8 = [(values.astype(int) + 128).astype(np.uint8) for values in (x, y)]
    parts = [part for scale, zero in zip(of_all, zeros, strict=True) for part in (scale, np.uint8(zero + 128))]
    received = in_onnx_runtime("QLinearMatMul", u8, [None, *parts[:2], None, *parts[2:]]) - 128
    np.testing.assert_array_equal(received, on_grid(compute(ONNX_RUNTIME), zeros[2]))


@pytest.mark.parametrize("seed", range(SAMPLES))
def test_average_pooling_on_one_grid(seed: int) -> None:
    """TFLite's kernel rounds integers with their zero point, ONNX Runtime's real numbers."""
    draw = Draw(seed)
    scale, zero, padded, stride = draw.scale(), draw.zero_point(), seed % 2 == 0, 1 + seed % 3
    layer = layers.AveragePooling2D((2 + seed % 2, 3), stride, padding="same" if padded else "valid")
    x = draw.integers(1, 9, 8, 16)
    windows, a = Windows.of(layer, x.shape), centred(x, zero)

    def compute(arithmetic: Any) -> Any:
        return arithmetic.pooled(a, windows, (scale, scale), (np.float32(zero + 128),) * 2)

    options = {"kind": "Pool2DOptions", "padding": 0 if padded else 1, "strideW": stride, "strideH": stride}
    options |= {"filterHeight": layer.pool_size[0], "filterWidth": layer.pool_size[1]}
    shape = np.shape(compute(XNNPACK))
    content = tflite("AVERAGE_POOL_2D", 2, [Tensor(x.shape, scale, zero), Tensor(shape, scale, zero)], options)
    check_tflite(content, [x], both(compute, zero))
    constants = [None, scale, np.uint8(zero + 128), scale, np.uint8(zero + 128)]
    u8 = (x.astype(int) + 128).astype(np.uint8)
    how = {"auto_pad": "SAME_UPPER" if padded else "VALID", "channels_last": 1, "strides": [stride, stride]}
    received = in_onnx_runtime("QLinearAveragePool", [u8], constants, kernel_shape=layer.pool_size, **how) - 128
    np.testing.assert_array_equal(received, on_grid(compute(ONNX_RUNTIME), zero))


@pytest.mark.parametrize("sizes", [(10, 14), (3, 4), (15, 3)])
def test_bilinear_resizing_in_the_reference_kernel(sizes: tuple[int, int]) -> None:
    draw = Draw(0)
    x, zero, scale = draw.integers(1, 5, 7, 8), draw.zero_point(), draw.scale()
    expected = on_grid(resized(centred(x, zero), sizes, np.float32(zero + 128)), zero)
    wanted = Tensor((2,), values=np.array(sizes, np.int32))
    tensors = [Tensor(x.shape, scale, zero), wanted, Tensor((1, *sizes, 8), scale, zero)]
    options = {"kind": "ResizeBilinearOptions", "alignCorners": False, "halfPixelCenters": True}
    content = tflite("RESIZE_BILINEAR", 3, tensors, options)
    np.testing.assert_array_equal(in_litert(content, [x], reference=True), expected)
    if MICRO:
        np.testing.assert_array_equal(in_micro(content, [x]), expected)
