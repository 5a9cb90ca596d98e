"""Large constants are not copied by the steps that don't look at them."""

from __future__ import annotations

import keras
import numpy as np
import onnx
import pytest

import tfcompress as tfc
from tfcompress.export import exporter
from tfcompress.export.onnx import detached_constants as module
from tfcompress.export.onnx.detached_constants import without_large_constants
from tfcompress.export.onnx.to_onnx import to_onnx
from tfcompress.export.tflite import to_tflite
from tfcompress.tracing.trace import trace

L = keras.layers


def network():
    keras.utils.set_random_seed(0)
    x = keras.Input((9, 9, 3), name="image")
    y = L.Conv2D(8, 3, name="conv")(x)
    y = L.BatchNormalization(name="norm")(y)
    y = L.LSTM(4, name="lstm")(L.Reshape((-1, 8), name="rows")(y))
    return keras.Model(x, {"b": L.Dense(5, name="b")(y), "a": L.Dense(70, name="a")(y)})


def test_a_lean_copy_has_the_same_shapes():
    proto = to_onnx(trace(network(), None))
    before = proto.SerializeToString(deterministic=True)
    large = onnx.TensorProto(name="large", data_type=onnx.TensorProto.INT8, dims=[100, 50], raw_data=b"0" * 5000)
    proto.graph.initializer.append(large)
    proto.graph.node.append(onnx.helper.make_node("Cast", ["large"], ["cast"], to=onnx.TensorProto.FLOAT))
    made = without_large_constants(proto)
    assert [value.name for value in made.graph.input] == ["image", "large"]
    assert len(made.graph.initializer) == len(proto.graph.initializer) - 1
    found, whole = (onnx.shape_inference.infer_shapes(each, strict_mode=True, data_prop=True) for each in (made, proto))
    assert found.graph.value_info == whole.graph.value_info
    assert made.ByteSize() < proto.ByteSize() - 4900
    onnx.checker.check_model(made, full_check=True)
    proto.graph.initializer.pop(), proto.graph.node.pop()
    assert proto.SerializeToString(deterministic=True) == before


def test_a_lean_copy_is_checked_as_the_whole_is():
    proto = to_onnx(trace(keras.Sequential([keras.Input((80,)), L.Dense(80)]), 1))
    onnx.checker.check_model(without_large_constants(proto), full_check=True)
    next(tensor for tensor in proto.graph.initializer if len(tensor.dims) == 2).dims[0] = 79
    with pytest.raises(onnx.shape_inference.InferenceError):
        onnx.checker.check_model(without_large_constants(proto), full_check=True)


@pytest.mark.parametrize("recipe", [None, "int8", "dynamic_int8"])
def test_the_file_is_the_same_however_much_counts_as_large(recipe, tmp_path, monkeypatch):
    model = network()
    if recipe is not None:
        samples = np.random.default_rng(0).normal(size=(8, 9, 9, 3)).astype("float32")
        model = tfc.quantize(model, recipe, data=samples)
    found = []
    for least in (100, 1 << 30):
        monkeypatch.setattr(module, "LARGE", least)
        path = tfc.export(model, tmp_path / "m.onnx", overwrite=True, verify=False).path
        found.append(path.read_bytes())
    assert found[0] == found[1]


def test_tflite_with_weights_that_count_as_large(tmp_path, monkeypatch):
    found, x = [], np.random.default_rng(0).normal(size=(2, 9, 9, 3)).astype("float32")
    for least in (100, 1 << 30):
        monkeypatch.setattr(to_tflite, "LARGE", least)
        artifact = tfc.export(network(), tmp_path / "m.tflite", overwrite=True)
        found.append((list(artifact.outputs), artifact.nbytes, artifact.predict(x)))
    (names, size, values), (other_names, other_size, other_values) = found
    assert names == other_names
    assert abs(size - other_size) < 0.05 * size
    for name in names:
        np.testing.assert_array_equal(values[name], other_values[name])


def test_repeated_constants_of_a_large_tflite_file_are_stored_once(tmp_path, monkeypatch):
    monkeypatch.setattr(to_tflite, "LARGE", 100)
    x = keras.Input((40,), name="x")
    parts = [L.Dense(50, kernel_initializer=keras.initializers.RandomNormal(seed=1), name=name)(x) for name in "ab"]
    artifact = tfc.export(keras.Model(x, L.Concatenate()([parts[0], L.ReLU()(parts[1])])), tmp_path / "m.tflite")
    assert artifact.nbytes < 2 * 40 * 50 * 4


def kernels(kind):
    keras.utils.set_random_seed(0)
    x = keras.Input((100,), name="x")
    model = keras.Model(x, L.Dense(100, name="b")(L.Dense(100, name="a")(x)))
    return model if kind == "float" else tfc.quantize(model, kind, np.random.default_rng(0).normal(size=(8, 100)))


@pytest.mark.parametrize(
    ("kind", "precision", "suffix", "least"),
    [
        ("float", "float32", "tflite", 80_800),
        ("float", "float32", "onnx", 80_800),
        ("float", "float16", "tflite", 40_400),
        ("float", "float16", "onnx", 40_400),
        ("int8", "float32", "onnx", 20_800),
        ("int8", "float32", "tflite", 80_800),  # its converter writes floats first
    ],
)
def test_the_limit_counts_the_bytes_that_are_written(kind, precision, suffix, least, tmp_path, monkeypatch):
    model = kernels(kind=kind)
    monkeypatch.setattr(exporter, "LARGEST_FILE", least - 1)
    way = "Leave external_data at None" if suffix == "onnx" else "Export to .onnx.*split the model, or.*'float16'"
    with pytest.raises(ValueError, match=rf"Expected at most 0\.0 GB of weights.*{way}"):
        tfc.export(model, tmp_path / f"m.{suffix}", precision=precision, external_data=False)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(exporter, "LARGEST_FILE", least + 3000)
    assert tfc.export(model, tmp_path / f"m.{suffix}", precision=precision).path.exists()


def test_integers_that_turn_out_as_floats_are_counted(tmp_path, monkeypatch):
    model = kernels(kind="float")
    monkeypatch.setattr(exporter, "LARGEST_FILE", 79_999)
    monkeypatch.setattr(exporter, "check_weights", lambda *args, **kwargs: None)
    with pytest.raises(ValueError, match=r"Received: 0\.0 GB in 'functional"):
        tfc.export(model, tmp_path / "m.onnx", external_data=False)
    assert not list(tmp_path.iterdir())
