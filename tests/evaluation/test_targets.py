"""Files judged for a target: in the runtime that proves them, or refused; what they take of a small device."""

from __future__ import annotations

import importlib.util
import subprocess

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tfc
from tests.once import once

pytest.importorskip("tflite_micro")
pytest.importorskip("ethosu.vela")

X = np.random.default_rng(0).normal(size=(12, 6, 6, 2)).astype("float32")
Y = np.arange(12) % 3
NPU = "ethos-u55-128"


@once
def model():
    parts = [layers.Conv2D(4, 3, activation="relu", name="first"), layers.Lambda(keras.ops.cos, name="wave")]
    parts += [layers.Flatten(name="flat"), layers.Dense(3, name="y")]
    return keras.Sequential([keras.Input((6, 6, 2), name="x"), *parts], name="net")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return an integer file, one with a cosine in float, which Vela leaves to the processor, and a float one."""
    folder = tmp_path_factory.mktemp("files")
    plain = keras.Sequential([keras.Input((6, 6, 2), name="x"), layers.Flatten(), layers.Dense(3, name="y")])
    made = {
        "int8": (tfc.quantize(plain, "int8", X), {"target": NPU}),
        "wave": (tfc.quantize(model(), "int8", X), {"inference_io": "int8", "verify": False}),
        "float": (plain, {"verify": False}),
        "many": (plain, {"verify": False, "batch_size": None}),
        "half": (plain, {"verify": False, "precision": "float16"}),
        "narrow": (tfc.quantize(plain, "w4a8", X), {"verify": False, "prefer": "size"}),
    }
    return {name: tfc.export(one, folder / f"{name}.tflite", **how) for name, (one, how) in made.items()}


def test_a_target_says_which_runtime(files):
    file = files["float"]
    timing = tfc.benchmark(file, runs=2, warmup=1, target="microcontroller")
    assert timing.runtime.startswith("TFLite Micro")
    assert tfc.benchmark(file, runs=2, warmup=1, target="android").runtime.startswith("LiteRT")
    assert tfc.evaluate(file.path, X, Y, target="microcontroller").samples == 12
    both = tfc.targets.get("microcontroller").replace(name="both", runtimes=("litert", "tflm"))
    assert tfc.benchmark(file, runs=2, warmup=1, target=both, runtime="litert").runtime.startswith("LiteRT")
    with pytest.raises(ValueError, match="runtime='tflm', where.*Received: runtime='litert' and target='micro"):
        tfc.benchmark(file, target="microcontroller", runtime="litert")


def test_the_verb_that_compares_with_keras_takes_it(files):
    made = tfc.verify(tfc.quantize(model(), "int8", X), files["wave"], X, target=wavy())
    assert made["y"].max_steps <= 4


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        (
            "float",
            NPU,
            r"Expected 8-bit integers, in which target 'ethos-u55-128'.*float.tflite' with floats.*export\(",
        ),
        ("half", "microcontroller", "with float16 weights"),
        ("many", "microcontroller", r"fixed sizes for target.*of shape \(None, 6, 6, 2\)"),
        ("narrow", "microcontroller", "stored in 8 bits.*int4 at layer 'y"),
        ("wave", NPU, r"compute in integers alone.*2 of 4 compute in float: COS of layer 'wave'"),
        ("float", "web", r"a .onnx file for target 'web'"),
        ("float", "microcontroler", "Did you mean 'microcontroller'"),
    ],
)
def test_what_a_file_has_that_a_target_cannot_do(files, name, target, message):
    verbs = [
        lambda: tfc.evaluate(files[name], X, Y, target=target),
        lambda: tfc.verify(model(), files[name], X, target=target),
        lambda: tfc.benchmark(files[name], target=target),
        lambda: tfc.compare({"float": model(), "file": files[name]}, X, Y, target=target),
    ]
    for verb in verbs:
        with pytest.raises(ValueError, match=message):
            verb()


def test_an_operator_that_is_missing_is_named_with_the_way_round(tmp_path):
    gelu = keras.Sequential([keras.Input((4,), name="x"), layers.Dense(2, activation="gelu", name="hidden")])
    file = tfc.export(gelu, tmp_path / "gelu.tflite", verify=False)
    with pytest.raises(ValueError, match="Received: GELU of layer 'hidden'. Take silu"):
        tfc.evaluate(file, np.ones((3, 4)), np.ones((3, 2)), target="microcontroller")
    with pytest.raises(ValueError, match="Received: GELU of '.+'. Take silu"):
        tfc.evaluate(file.path, np.ones((3, 4)), np.ones((3, 2)), target="microcontroller")


def wavy():
    """Return a target whose processor may compute in float beside the NPU."""
    return tfc.targets.get(NPU).replace(name="wavy", integers_only=False)


def test_files_for_an_npu_beside_each_other(files, tmp_path, monkeypatch):
    ran = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **how: ran.append(command) or run(command, **how))
    models = {"float": model(), "int8": files["int8"], "wave": files["wave"]}
    how = {"target": {"int8": NPU, "wave": wavy()}, "latency": False, "layers": False}
    again = tfc.compare(models, X, Y, **how)
    flash = again["wave"].npu.flash - 1
    report = tfc.compare(models, X, Y, **how, flash=flash, ram=100_000)
    assert len(ran) == 2  # once for each file
    assert report["float"].npu is None and report["int8"].footprint is None
    found = report["wave"].npu
    assert again["wave"].npu.cycles == found.cycles == tfc.estimate_npu(files["wave"]).cycles > 0
    assert [one.name for one in found.on_npu] == ["first", "y_linear"]
    assert "Cos" in {one.kind for one in found.on_processor}
    assert found.too_much == {"flash": 1} and not found.fits
    said = report.to_dict()["candidates"][2]["npu"]
    assert said["milliseconds"] == found.milliseconds and said["flash"] == found.flash
    assert {one["reason"] for one in said["operators"] if one["kind"] == "Cos"} == {"Unsupported opType"}
    page, markdown = tmp_path / "r.html", tmp_path / "r.md"
    report.save(page)
    report.to_markdown(markdown)
    for text in (str(report), markdown.read_text(), page.read_text()):
        words = " ".join(text.split())
        assert "On ethos-u55-128, estimated by Vela" in words and "nothing is measured" in words
        assert f"{found.flash:,}" in words and f"{found.cycles:,}" in words and f"{found.sram:,}" in words
        assert "Cos (wave): Unsupported opType" in words and "1 bytes of flash too large" in words


def test_files_for_a_microcontroller_beside_each_other(files, tmp_path):
    models = {"float": model(), "file": files["float"]}
    report = tfc.compare(models, X, Y, target="microcontroller", latency=False, layers=False, ram=1_000, flash=100_000)
    arena = report["file"].footprint.arena.total
    report.to_markdown(tmp_path / "r.md")
    for text in (str(report), (tmp_path / "r.md").read_text()):
        assert "In TFLite Micro, to the byte" in text and f"{arena:,}" in text
        assert f"{arena - 1_000:,} bytes of RAM too large" in " ".join(text.split())


def test_what_is_said_before_any_work(files, monkeypatch):
    with pytest.raises(ValueError, match=r"Expected target to name models of \['a'\]. Received: \['b'\]"):
        tfc.compare({"a": files["int8"]}, X, Y, target={"b": NPU})
    with pytest.raises(ValueError, match="Say target='microcontroller'"):
        tfc.compare({"a": model()}, X, Y, ram=3)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ethosu" else name)
    with pytest.raises(ImportError, match=r"ethos-u-vela.*pip install 'tfcompress\[mcu\]'"):
        tfc.compare({"a": files["int8"]}, X, Y, target=NPU)
