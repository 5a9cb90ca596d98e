"""ONNX models whose weights stand in a second file."""

from __future__ import annotations

import os
import pathlib
import shutil

import keras
import numpy as np
import onnx
import pytest

import tfcompress as tfc
from tfcompress.core import atomic_files
from tfcompress.export import exporter
from tfcompress.runtime import external_data
from tfcompress.runtime.opening import open_runner

L = keras.layers
IN_4_BITS = tfc.QuantizeConfig(weights=tfc.WeightSpec(bits=4), activations=None)
X = np.random.default_rng(1).normal(size=(8, 12, 9)).astype("float32")


def network(recipe=None, seed=0):
    keras.utils.set_random_seed(seed)
    x = keras.Input((12, 9), name="x")
    y = L.BatchNormalization(name="norm")(L.Conv1D(40, 3, activation="relu", name="conv")(x))
    y = y if recipe else L.LSTM(24, name="lstm")(y)
    y = L.GlobalAveragePooling1D(name="pool")(y) if recipe else y
    model = keras.Model(x, L.Dense(30, name="dense")(y))
    return model if recipe is None else tfc.quantize(model, recipe, data=X)


def small(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((12, 9), name="x"), L.Dense(40, name="y")])


def values_of(path):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in external_data.read(path).graph.initializer}


@pytest.mark.parametrize(
    ("recipe", "precision", "opset"),
    [
        (None, "float32", 18),
        (None, "float16", 21),
        ("int8", "float32", 18),
        (IN_4_BITS, "float32", 19),
    ],
)
def test_the_two_files_are_the_one(recipe, precision, opset, tmp_path, monkeypatch):
    model = network(recipe)
    one = tfc.export(model, tmp_path / "one.onnx", precision=precision, opset=opset)
    assert one.data_files == ()
    monkeypatch.setattr(exporter, "LARGEST_FILE", one.nbytes // 2)
    two = tfc.export(model, tmp_path / "two.onnx", precision=precision, opset=opset)
    assert two.data_files == (tmp_path / "two.onnx.data",)
    assert sorted(os.listdir(tmp_path)) == ["one.onnx", "two.onnx", "two.onnx.data"]
    assert two.nbytes == sum(file.stat().st_size for file in (two.path, *two.data_files))
    assert two.path.stat().st_size < one.nbytes - 2000
    assert "with those of two.onnx.data" in str(two)
    onnx.checker.check_model(two.path, full_check=True)
    assert (two.precision, two.parity.outputs.keys()) == (one.precision, one.parity.outputs.keys())
    here, there = values_of(one.path), values_of(two.path)
    assert here.keys() == there.keys()
    assert all(np.array_equal(here[name], there[name]) for name in here)
    np.testing.assert_array_equal(one.predict(X), two.predict(X))
    for tensor in onnx.load(two.path, load_external_data=False).graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        assert not place or (
            place["location"] == "two.onnx.data" and int(place["offset"]) % external_data.ALIGNMENT == 0
        )


@pytest.mark.parametrize("recipe", [None, "int8"])
def test_whatever_reads_a_file_takes_both(recipe, tmp_path):
    model = network(recipe)
    path = tfc.export(model, tmp_path / "m.onnx", external_data=True).path
    opened = tfc.Artifact.open(path)
    assert opened.data_files == (tmp_path / "m.onnx.data",)
    one = tfc.export(model, tmp_path / "one.onnx", external_data=False)
    assert opened.precision == one.precision
    y = np.asarray(model(X))
    report = tfc.compare({"two": path, "one": one.path}, X, y.argmax(-1), latency=False)
    assert report["two"].size.parameters == report["one"].size.parameters
    assert report["two"].size.file_bytes == opened.nbytes
    assert tfc.verify(model, path, X).samples == len(X)
    found = tfc.debug(model, path, X)
    assert found.first is None
    assert found.missing == tfc.debug(model, one.path, X).missing
    assert tfc.benchmark(path, runs=2, warmup=1).median_ms > 0


def test_the_pair_can_move_and_the_second_is_missed(tmp_path):
    artifact = tfc.export(small(), tmp_path / "m.onnx", external_data=True)
    expected = artifact.predict(X)
    away = tmp_path / "away"
    away.mkdir()
    for file in (artifact.path, *artifact.data_files):
        shutil.move(file, away)
    path = away / "m.onnx"
    np.testing.assert_array_equal(open_runner(path).predict(X), expected)
    (tmp_path / "link.onnx").symlink_to(path)
    np.testing.assert_array_equal(open_runner(tmp_path / "link.onnx").predict(X), expected)
    data = away / "m.onnx.data"
    content = data.read_bytes()
    data.write_bytes(content[:-1000])
    for verb in (open_runner, external_data.read, tfc.Artifact.open):
        with pytest.raises(ValueError, match=r"Expected .* bytes of weights in 'm.onnx.data'.*Copy both files again"):
            verb(path)
    data.unlink()
    for verb in (
        open_runner,
        external_data.read,
        tfc.Artifact.open,
        tfc.benchmark,
        lambda path: tfc.evaluate(path, X, X),
    ):
        with pytest.raises(FileNotFoundError, match=r"Expected weights of .*m.onnx.data'. Received: no such file"):
            verb(path)


def test_an_export_replaces_both_or_none(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    data = tmp_path / "m.onnx.data"
    first = tfc.export(small(), path, external_data=True).predict(X)
    with pytest.raises(FileExistsError):
        tfc.export(small(), path, external_data=True)
    tfc.export(small(seed=1), path, external_data=True, overwrite=True)
    assert not np.array_equal(open_runner(path).predict(X), first)
    before = path.read_bytes(), data.read_bytes()
    move = os.replace

    def fails_at(name):
        def replace(source, target):
            if pathlib.Path(target).name == name and pathlib.Path(target).parent == tmp_path:
                raise OSError("no")
            move(source, target)

        return replace

    monkeypatch.setattr(atomic_files.os, "replace", fails_at("m.onnx.data"))
    with pytest.raises(OSError, match="no"):
        tfc.export(small(), path, external_data=True, overwrite=True)
    monkeypatch.setattr(atomic_files.os, "replace", move)
    assert (path.read_bytes(), data.read_bytes()) == before
    tfc.export(small(), path, overwrite=True)
    assert os.listdir(tmp_path) == ["m.onnx"]
    np.testing.assert_allclose(open_runner(path).predict(X), first, atol=1e-6)
    data.write_bytes(b"of somebody else")
    with pytest.raises(FileExistsError, match=r"m\.onnx\.data"):
        tfc.export(small(), tmp_path / "n.onnx", external_data=True) and path.unlink()
        tfc.export(small(), path, external_data=True)
    tfc.export(small(), tmp_path / "m.onnx", external_data=False, overwrite=True)
    assert data.read_bytes() == b"of somebody else"


@pytest.mark.parametrize("given", [1, "yes", 0])
def test_what_external_data_is(given, tmp_path):
    with pytest.raises(TypeError, match="Expected external_data to be None, True or False"):
        tfc.export(small(), tmp_path / "m.onnx", external_data=given)


def test_tflite_has_one_file(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="Only ONNX has weights in a second file: export to .onnx"):
        tfc.export(small(), tmp_path / "m.tflite", external_data=True)
    monkeypatch.setattr(exporter, "LARGEST_FILE", 1000)
    with pytest.raises(ValueError, match=r"one file of either format holds.*Export to .onnx"):
        tfc.export(small(), tmp_path / "m.tflite")
    with pytest.raises(ValueError, match="Leave external_data at None"):
        tfc.export(small(), tmp_path / "m.onnx", external_data=False)
    assert not list(tmp_path.iterdir())
