"""Bytes, parameters and non-zeros against counts by NumPy."""

import zlib

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tfcompress as tfc
from tests.evaluation.conftest import save_onnx
from tfcompress.evaluation.file_constants import Count, count_onnx, count_tflite
from tfcompress.evaluation.open_predictor import Saved, open_predictor
from tfcompress.evaluation.size import count_keras, measure_size, save_without_optimizer, zipped_size
from tfcompress.evaluation.tflite_constants import unpacked
from tfcompress.export.tflite.flatbuffer import File
from tfcompress.pruning.prune import update_masks
from tfcompress.quantization.quantize import quantize


def nonzeros(arrays):
    return sum(int(np.count_nonzero(array)) for array in arrays)


def test_keras(digits):
    assert count_keras(digits.model) == Count(64 * 24 + 24 + 240 + 10, nonzeros(digits.kernels))


def test_integer_state_is_no_parameter():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.BatchNormalization()])
    assert count_keras(model).parameters == 16


def test_keras_counts_what_the_layers_see():
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(4)])
    kernel = np.random.default_rng(0).normal(size=(16, 8)).astype("float32")
    kernel[0, :4] *= 1e-5  # less than half a step of its channel's grid
    kernel[1, 0] = 0
    model.set_weights([kernel, np.ones(8), np.ones((8, 4)), np.ones(4)])
    assert count_keras(model) == Count(16 * 8 + 8 + 8 * 4 + 4, 16 * 8 - 1 + 8 + 8 * 4 + 4)
    quantized = quantize(model, "int8", data=np.ones((4, 16), "float32"))
    kept = int(np.count_nonzero(np.rint(kernel / np.abs(kernel).max(axis=0) * 127)))
    assert kept <= 16 * 8 - 1 - 4
    assert count_keras(quantized) == Count(172, kept + 8 + 8 * 4 + 4)  # and no range is a parameter
    pruned = tfc.prune(model, 0.5)
    assert count_keras(pruned).parameters == 172
    update_masks(pruned)
    assert count_keras(pruned) == count_keras(tfc.strip(pruned)) == Count(172, 172 - 64 - 16)


@pytest.mark.parametrize("recipe", ["int8", "int8_weights", "dynamic_int8"])
def test_quantized_files_count_as_their_model(recipe, tmp_path):
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.ReLU()(keras.layers.Conv2D(16, 3)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(40)(keras.layers.Flatten()(x)))
    model.set_weights([np.asarray(w) + 0.01 for w in model.get_weights()])  # biases that aren't zero
    model = tfc.prune_once(model, 0.7)
    data = np.random.default_rng(0).normal(size=(32, 8, 8, 2)).astype("float32")
    quantized = quantize(model, recipe, data=data)
    expected = count_keras(quantized)
    assert expected.parameters == model.count_params()
    assert expected.nonzeros < 0.31 * model.count_params()
    for counted, name in ((count_tflite, "model.tflite"), (count_onnx, "model.onnx")):
        tfc.export(quantized, tmp_path / name)
        assert counted(tmp_path / name) == expected, name


def test_onnx_scales_that_integers_are_multiplied_with(tmp_path):
    """Weights alone, widened by hand; and a product of integers, scaled by what was measured."""
    constants = {
        "w": np.array([[1, 0, -2], [5, 3, 0]], np.int8),
        "w_scale": np.array([[0.5, 0.25, 2]], np.float32),
        "v": np.array([[1, 0], [0, 3], [4, 5]], np.int8),
        "v_scale": np.array([0.5, 0.25], np.float32),
        "gain": np.array([2, 0], np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "w_scale"], ["weight"]),
        helper.make_node("MatMul", ["x", "weight"], ["middle"]),
        helper.make_node("DynamicQuantizeLinear", ["middle"], ["q", "q_scale", "q_point"]),
        helper.make_node("Mul", ["q_scale", "v_scale"], ["scale"]),
        helper.make_node("MatMulInteger", ["q", "v", "q_point"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["product"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["product", "scale"], ["scaled"]),
        helper.make_node("Mul", ["scaled", "gain"], ["y"]),  # a weight like any other
    ]
    file = tmp_path / "scales.onnx"
    save_onnx(file, nodes, constants, {"x": ["n", 2]}, {"y": ["n", 2]})
    assert count_onnx(file) == Count(6 + 6 + 2, 4 + 4 + 1)


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


def test_sparse_files(tmp_path):
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(96), keras.layers.Dense(32)])
    model.set_weights([np.asarray(w) + 0.01 for w in model.get_weights()])  # biases that aren't zero
    model = tfc.prune_once(model, 0.9)
    parameters, zeros = 64 * 96 + 96 + 96 * 32 + 32, 64 * 96 + 96 * 32 - 614 - 307
    tfc.export(model, tmp_path / "dense.tflite")
    assert count_tflite(tmp_path / "dense.tflite") == Count(parameters, parameters - zeros)
    tfc.export(model, tmp_path / "sparse.tflite", sparse=True)
    assert count_tflite(tmp_path / "sparse.tflite") == Count(parameters, parameters - zeros, left_out=zeros)
    size = measure_size(open_predictor(tmp_path / "sparse.tflite"), tmp_path / "sparse.tflite")
    assert size.sparsity == pytest.approx(zeros / parameters)
    assert size.stored_zeros == 0
    assert (
        measure_size(open_predictor(tmp_path / "dense.tflite"), tmp_path / "dense.tflite").stored_zeros == size.sparsity
    )
    # What isn't stored is the integer 0, whatever integer stands for zero.
    file = File((tmp_path / "sparse.tflite").read_bytes())
    for tensor in file.graphs[0].tensors:
        if tensor.sparsity is not None:
            tensor.quantization = file.schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = np.ones(1, "f4"), np.array([5])
    (tmp_path / "shifted.tflite").write_bytes(file.to_bytes())
    assert count_tflite(tmp_path / "shifted.tflite") == Count(parameters, parameters, left_out=zeros)


def test_packed_bits():
    assert unpacked(np.array([0xF1, 0x80], np.uint8), "INT4").tolist() == [1, -1, 0, -8]
    assert unpacked(np.array([0xF1], np.uint8), "UINT4").tolist() == [1, 15]
    assert unpacked(np.array([0b11_10_01_00], np.uint8), "INT2").tolist() == [0, 1, -2, -1]
    assert np.count_nonzero(unpacked(np.array([0, 0x80, 0, 0x3F], np.uint8), "BFLOAT16")) == 1  # minus zero, 0.5


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


def test_a_size_is_that_of_the_file(digits, tmp_path):
    """With the optimizer's state, which is in the file too."""
    file = tfc.save(digits.model, tmp_path / "trained.keras")
    saved = Saved(digits.model, file)
    report = tfc.compare({"saved": saved, "file": file, "memory": digits.model}, digits.x, digits.y, latency=False)
    for name in ("saved", "file"):
        assert report[name].size.file_bytes == file.stat().st_size
        assert report[name].is_file
    assert report["memory"].size.file_bytes < file.stat().st_size
    assert "without the optimizer's state" in report.caption()
