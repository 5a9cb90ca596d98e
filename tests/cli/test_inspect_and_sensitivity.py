"""Jobs that look at a model and change nothing: `inspect` and `sensitivity`."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers as L

import tfcompress as tfc


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with a model, its quantized files, and data."""
    folder = tmp_path_factory.mktemp("workshop")
    keras.utils.set_random_seed(0)
    x, y = np.random.default_rng(0).normal(size=(40, 4)).astype("float32"), np.arange(40) % 2
    np.savez(folder / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    layers = [keras.Input((4,), name="x"), L.Dense(8, "relu", name="hidden"), L.Dense(2, name="logits")]
    model = keras.Sequential(layers, name="small")
    model.save(folder / "model.keras")
    quantized = tfc.quantize(model, "int8", x)
    for name in ("int8.tflite", "int8.onnx"):
        tfc.export(quantized, folder / name, inference_io="int8")
    return folder


@pytest.mark.parametrize(("name", "kinds"), [("int8.tflite", {"FULLY_CONNECTED": 2}), ("int8.onnx", {"Gemm": 2})])
def test_what_is_in_a_file(name, kinds, workshop, script):
    found = json.loads(script("inspect", f"--model={workshop / name}", "--json=-").stdout)
    artifact = tfc.Artifact.open(workshop / name)
    assert {one["kind"]: one["integer"] for one in found["operators"] if one["parameters"]} == kinds
    assert sum(one["parameters"] for one in found["operators"]) == 4 * 8 + 8 * 2
    assert sum(one["float"] for one in found["operators"]) == len(artifact.operators.floats)
    sizes = found["bytes_by_kind"]
    assert sum(sizes.values()) == found["nbytes"] == artifact.nbytes
    assert sizes["int8 constants"] >= 4 * 8 + 8 * 2
    (tensor,) = found["inputs"]
    assert (tensor["name"], tensor["dtype"], tensor["shape"][1:]) == ("x", "int8", [4])
    real = np.array([[0.5, -0.25, 0.0, 1.0]], "float32")
    stored = np.clip(np.round(real / tensor["scale"]) + tensor["zero_point"], -128, 127).astype("int8")
    (output,) = found["outputs"]
    integers = artifact.predict(stored).astype("float32")
    np.testing.assert_array_equal(
        (integers - output["zero_point"]) * np.float32(output["scale"]), artifact.predict(real)
    )


def test_what_is_in_a_model(workshop, script):
    done = script("inspect", f"--model={workshop / 'model.keras'}")
    assert "small: 58 parameters" in done.stdout
    assert "input x: float32 (any, 4)" in done.stdout
    assert "output logits: float32 (any, 2)" in done.stdout
    found = json.loads(script("inspect", f"--model={workshop / 'model.keras'}", "--json=-").stdout)
    assert found["bytes_by_kind"] == {"float32 kernel": 192, "float32 bias": 40}
    assert [row["layer"] for row in found["layers"]] == ["hidden", "logits"]


def test_a_scan_goes_on_with_what_its_file_has(workshop, tmp_path, script):
    output = tmp_path / "scan.json"
    flags = [f"--model={workshop / 'model.keras'}", f"--data={workshop / 'data.npz'}", f"--output={output}"]
    done = script("sensitivity", *flags, "--sparsities=0.5,0.9")
    assert "Baseline" in done.stdout
    assert done.stderr == ""
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    page = output.with_suffix(".html").read_text()
    assert "small on data" in page and "tfcompress sensitivity --data=" in page and "Most sensitive is" in page
    whole = json.loads(output.read_text())
    assert [(row["layer"], row["level"]) for row in whole["rows"]] == [
        (layer, level) for layer in ("hidden", "logits") for level in (0.5, 0.9)
    ]
    output.write_text(json.dumps({**whole, "rows": whole["rows"][:1]}))  # as it was when it was killed
    script("sensitivity", *flags, "--sparsities=0.5,0.9")
    assert json.loads(output.read_text()) == whole
    assert "differs in" in script("sensitivity", *flags, "--bits=4", code=1).stderr
    assert "Received: both" in script("sensitivity", *flags, "--bits=4", "--sparsities=0.5", code=2).stderr


def test_scans_are_shown_in_the_report(workshop, tmp_path, script):
    model, data = workshop / "model.keras", np.load(workshop / "data.npz")
    scan = tfc.sensitivity(tfc.load(model), (data["x_test"], data["y_test"]), bits=[3, 8], progress=False)
    scan.to_json(tmp_path / "scan.json")
    page, text = tmp_path / "r.html", tmp_path / "r.md"
    flags = [f"--models={model},{workshop / 'int8.tflite'}", f"--data={workshop / 'data.npz'}", f"--html={page}"]
    done = script("evaluate", *flags, f"--markdown={text}", f"--scans={tmp_path / 'scan.json'}")
    assert f"Written to {page} and {text}." in done.stdout
    for said in (page.read_text(), text.read_text()):
        assert all(part in said for part in ("model.keras on data", "Sensitivity", "3 bits", "Layers of int8.tflite"))
        assert scan.verdict in said
    refused = script("evaluate", *flags, f"--scans={model}", "--overwrite", code=1)
    assert "the job sensitivity or prune --sweep wrote" in refused.stderr
