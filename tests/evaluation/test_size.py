"""Bytes, parameters and non-zeros against counts by NumPy."""

import zlib

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.evaluation.conftest import save_onnx
from tfcompress.evaluation.constants import Count, _unpack, count_onnx, count_tflite, tflite_io_scales
from tfcompress.evaluation.predictor import open_predictor
from tfcompress.evaluation.size import count_keras, measure_size, save_without_optimizer, zipped_size


def nonzeros(arrays):
    return sum(int(np.count_nonzero(array)) for array in arrays)


def test_keras(digits):
    assert count_keras(digits.model) == Count(64 * 24 + 24 + 240 + 10, nonzeros(digits.kernels))


def test_integer_state_is_no_parameter():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.BatchNormalization()])
    assert count_keras(model).parameters == 16


def test_tflite(digits, tflite_file):
    assert count_tflite(tflite_file) == Count(1810, nonzeros(digits.kernels))


def test_float16_counts_each_weight_once(digits, float16_file):
    halves = [array.astype(np.float16) for array in digits.kernels]
    found = count_tflite(float16_file)
    # The converter may keep small biases in float32; what is zero stays zero.
    assert found.parameters == 1810
    assert nonzeros(halves) <= found.nonzeros <= nonzeros(digits.kernels)


def test_int8(digits, int8_file):
    found = count_tflite(int8_file)
    expected = 0
    for place in (0, 2):
        kernel = digits.kernels[place]
        scale = np.abs(kernel).max(axis=0) / 127  # per output channel
        expected += int(np.count_nonzero(np.rint(kernel / scale)))
    biases = nonzeros([digits.kernels[1], digits.kernels[3]])
    assert found.parameters == 1810
    assert found.nonzeros == pytest.approx(expected + biases, abs=10)  # ties, biases that round to zero
    assert found.nonzeros < 1810
    assert tflite_io_scales(int8_file).keys() >= {"pixels"}


def test_packed_bits():
    assert _unpack(np.array([0xF1, 0x80], np.uint8), "INT4").tolist() == [1, -1, 0, -8]
    assert _unpack(np.array([0xF1], np.uint8), "UINT4").tolist() == [1, 15]
    assert _unpack(np.array([0b11_10_01_00], np.uint8), "INT2").tolist() == [0, 1, -2, -1]
    assert np.count_nonzero(_unpack(np.array([0, 0x80, 0, 0x3F], np.uint8), "BFLOAT16")) == 1  # minus zero, 0.5


def test_onnx_leaves_shapes_out(digits, onnx_file):
    assert count_onnx(onnx_file) == Count(1810, nonzeros(digits.kernels))


def test_onnx_quantized(tmp_path):
    weight = np.array([[1, 3, -2], [5, 3, -2], [1, 0, 0]], np.int8)
    points = np.array([1, 3, -2], np.int8)  # per column
    constants = {
        "w": weight,
        "scales": np.ones(3, np.float32),
        "points": points,
        "bias": np.array([0, 7, 0], np.int32),
        "one": np.array(1, np.float32),
        "shape": np.array([-1, 3]),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scales", "points"], ["weight"], axis=1),
        helper.make_node("DequantizeLinear", ["bias", "one"], ["offset"]),
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "offset"], ["y"]),
    ]
    file = tmp_path / "quantized.onnx"
    save_onnx(file, nodes, constants, {"x": ["n", 3]}, {"y": ["n", 3]})
    expected = int(np.count_nonzero(weight != points)) + 1
    assert count_onnx(file) == Count(9 + 3, expected)


def test_onnx_int4_behind_a_cast(tmp_path):
    values = [1, 0, -3, 0]
    weight = helper.make_tensor("w", TensorProto.INT4, [2, 2], values)
    nodes = [
        helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.INT8),
        helper.make_node("DequantizeLinear", ["wide", "scale"], ["weight"]),
        helper.make_node("MatMul", ["x", "weight"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weight, numpy_helper.from_array(np.array(0.5, np.float32), "scale")],
    )
    file = tmp_path / "int4.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), file)
    assert count_onnx(file) == Count(4, 2)


def test_onnx_tensors_beside_the_file(digits, onnx_file, tmp_path):
    file = tmp_path / "outside.onnx"
    onnx.save(onnx.load(onnx_file), file, save_as_external_data=True, location="weights.bin", size_threshold=100)
    size = measure_size(open_predictor(file), file)
    assert size.file_bytes == file.stat().st_size + (tmp_path / "weights.bin").stat().st_size
    assert size.parameters == 1810


def test_bytes(digits, tflite_file):
    size = measure_size(open_predictor(tflite_file), tflite_file)
    content = tflite_file.read_bytes()
    assert size.file_bytes == len(content)
    assert size.zipped_bytes == len(zlib.compress(content, 9))
    assert size.sparsity == pytest.approx(1 - nonzeros(digits.kernels) / 1810)


def test_zipped_in_order(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    (tmp_path / "b").write_bytes(b"y" * 10)
    content = b"x" * 3_000_000 + b"y" * 10
    assert zipped_size([tmp_path / "a", tmp_path / "b"]) == len(zlib.compress(content, 9))


def test_the_optimizer_does_not_weigh(digits, tmp_path):
    assert digits.model.optimizer is not None
    digits.model.save(tmp_path / "trained.keras")
    file = save_without_optimizer(digits.model, tmp_path)
    assert file.stat().st_size < (tmp_path / "trained.keras").stat().st_size - 1810 * 4
    again = keras.models.load_model(file)
    for ours, theirs in zip(again.get_weights(), digits.kernels, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert measure_size(open_predictor(digits.model)).file_bytes == pytest.approx(file.stat().st_size, abs=64)


def test_what_is_no_tflite(tmp_path):
    file = tmp_path / "no.tflite"
    file.write_bytes(b"0123456789")
    with pytest.raises(ValueError, match="no TFL3 mark"):
        count_tflite(file)
