"""What files hold of each layer, beside the model that they were made from."""

import keras
import numpy as np
import pytest
from onnx import helper

import tfcompress as tfc
from tests.evaluation.conftest import save_onnx
from tfcompress.evaluation.layer_source import LayerSource


@pytest.fixture(scope="module")
def files(digits, tflite_file, float16_file, int8_file, onnx_file):
    """What was found in files of other makers."""
    models = {"Keras": digits.model, "float": tflite_file, "half": float16_file, "int8": int8_file, "ONNX": onnx_file}
    found = LayerSource(models, {"pixels": digits.x[:20]}).changes("Keras")
    return {one.model: one for one in found}


@pytest.mark.parametrize(
    ("name", "dtype", "bits", "least"),
    [("float", "float32", 32, 140), ("half", "float16", 16, 60), ("int8", "int8", 8, 35), ("ONNX", "float32", 32, 140)],
)
def test_files_of_other_makers(digits, files, name, dtype, bits, least):
    found = files[name]
    names = [layer.name for layer in digits.model.layers[1:]]
    assert (found.reference, found.problem, found.samples) == ("Keras", "", 20)
    assert [one.layer for one in found.weights] == names
    for one, kernel in zip(found.weights, digits.kernels[::2], strict=True):
        scales = 12 * one.grid.scales if one.grid else 0
        assert (one.shape, one.dtype, one.bits, one.nbytes) == (
            kernel.shape,
            dtype,
            bits,
            kernel.size * bits // 8 + scales,
        )
        assert (one.before.low, one.before.high) == pytest.approx((kernel.min(), kernel.max()))
        assert one.after.zeros == pytest.approx(np.mean(kernel == 0), abs=0.06)
        assert one.sqnr is None or one.sqnr > least
        assert (one.grid is None) == (dtype != "int8")
    assert found.activations[-1].sqnr is None or found.activations[-1].sqnr > 20
    assert found.activations[-1].after.high == pytest.approx(found.activations[-1].before.high, rel=0.05)


def test_the_scale_of_a_kernel_is_that_of_the_file(digits, files):
    kernel = digits.kernels[2]
    grid = files["int8"].weights[1].grid
    scales = np.abs(kernel).max(axis=0) / 127
    assert grid.scales == 10
    assert (grid.scale, grid.smallest_scale) == pytest.approx((scales.max(), scales.min()))
    assert (grid.low, grid.high) == pytest.approx((-np.abs(kernel).max(), np.abs(kernel).max()))


def test_a_factor_that_is_folded_in_counts_as_before(digits, tmp_path):
    kernel, bias = digits.kernels[:2]
    nodes = [helper.make_node("Gemm", ["pixels", "w", "b"], ["hidden"])]
    file = tmp_path / "f.onnx"
    save_onnx(file, nodes, {"w": kernel / 255, "b": bias}, {"pixels": [None, 64]}, {"hidden": [None, 24]})
    (found,) = LayerSource({"Keras": digits.model, "file": file}, {"pixels": digits.x[:8]}).changes("Keras")
    (weight,) = found.weights
    assert weight.layer == digits.model.layers[1].name
    assert weight.before.high == pytest.approx(kernel.max() / 255)
    assert weight.sqnr is None or weight.sqnr > 100


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """A convolution with a normalization behind it, float and as int8 files."""
    folder = tmp_path_factory.mktemp("folded")
    keras.utils.set_random_seed(0)
    L = keras.layers
    layers = [L.Conv2D(4, 3, name="conv"), L.BatchNormalization(name="norm"), L.ReLU(name="relu"), L.Flatten()]
    # Its input has another name as a tensor than as a layer.
    model = keras.Sequential([keras.Input((6, 6, 2)), *layers, L.Dense(3, name="out")])
    x = np.random.default_rng(0).normal(size=(40, 6, 6, 2)).astype("float32")
    norm = model.get_layer("norm")
    norm.set_weights([np.array([1.0, 2, -3, 0.5], "float32"), *norm.get_weights()[1:]])
    quantized = tfc.quantize(model, "int8", x)
    paths = {name: tfc.export(quantized, folder / name, verify=False) for name in ("m.tflite", "m.onnx")}
    paths["coded.onnx"] = tfc.export(quantized, folder / "coded.onnx", weights="coded", verify=False)
    report = tfc.compare({"float": model, **paths}, x, np.arange(40) % 3, latency=False)
    return model, report


@pytest.mark.parametrize(
    ("name", "dtype", "nbytes"),  # of weights with their scales and zero points
    [("m.tflite", "int8", 72 + 4 * (4 + 8)), ("m.onnx", "int8", 72 + 4 * (4 + 1)), ("coded.onnx", "int8", 72 + 4 * 4)],
)
def test_what_is_folded_into_a_kernel_counts_as_before(folded, name, dtype, nbytes):
    model, report = folded
    found = next(one for one in report.layers if one.model == name)
    norm = model.get_layer("norm")
    scale = np.array([1.0, 2, -3, 0.5]) / np.sqrt(1 + norm.epsilon)
    kernel = model.get_layer("conv").get_weights()[0] * scale
    conv, out = found.weights
    assert (conv.layer, conv.shape, conv.dtype, conv.nbytes, out.layer) == ("conv", (3, 3, 2, 4), dtype, nbytes, "out")
    assert (conv.before.low, conv.before.high) == pytest.approx((kernel.min(), kernel.max()))
    assert 35 < conv.sqnr < 60
    assert conv.grid.scale == pytest.approx(np.abs(kernel).max() / 127, rel=0.01)
    by_layer = {one.layer: one for one in found.activations}
    assert {"relu", "out"} <= set(by_layer)
    assert by_layer["relu"].bits == 8 and by_layer["relu"].grid.scales == 1
    assert all(one.sqnr > 20 for one in by_layer.values())


def test_a_file_is_looked_into_beside_the_model_that_it_was_made_from(folded):
    model, report = folded
    other = keras.models.clone_model(model)  # with other weights
    x = np.random.default_rng(1).normal(size=(16, 6, 6, 2)).astype("float32")
    file = next(path for name, path in report.layer_source.models.items() if name == "m.tflite")
    source = LayerSource({"trained": other, "float": model, "file": file}, {"x": x})
    changes = {one.model: one for one in source.changes("trained")}
    found = changes["file"]
    assert "tensors of float are in the file" in found.note
    by_layer = {one.layer: one for one in found.activations}
    real = keras.Model(other.inputs, other.get_layer("relu").output).predict(x, verbose=0)
    assert by_layer["relu"].before.high == pytest.approx(real.max(), rel=1e-4)
    assert by_layer["relu"].sqnr < 10  # other weights
    alone = LayerSource({"file": file}, {"x": x}).changes("file")[0]
    assert (alone.reference, alone.activations) == (None, ())
    assert [one.before for one in alone.weights] == [None, None] and alone.weights[0].histogram.after


def test_gates_and_directions_of_an_onnx_lstm_are_those_of_keras(tmp_path):
    keras.utils.set_random_seed(0)
    both = keras.layers.Bidirectional(keras.layers.LSTM(8), name="both")
    model = keras.Sequential([keras.Input((3, 8), name="x"), both])
    file = tfc.export(tfc.quantize(model, "int8_weights"), tmp_path / "m.onnx", verify=False)
    (found,) = LayerSource({"Keras": model, "file": file.path}, {"x": np.zeros((2, 3, 8), "float32")}).changes("Keras")
    assert len(found.weights) == 4 and {one.layer for one in found.weights} == {"both"}
    for one in found.weights:
        assert (one.shape, one.dtype, one.nbytes, one.grid.scales) == ((8, 32), "int8", 8 * 32 + 4 * 32, 32)
        assert one.before is not None and one.sqnr > 40
    assert found.weights[0].before.high == pytest.approx(both.get_weights()[0].max())
