"""Estimates of Arm's compiler for NPUs, of files that tfcompress writes."""

from __future__ import annotations

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tfc

pytest.importorskip("ethosu.vela")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tfc.Artifact]:
    """Return a quantized file of which the NPU computes all but a cosine, and a float one."""
    folder = tmp_path_factory.mktemp("npu")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.ops.cos(layers.Conv2D(4, 3, activation="relu", name="first")(inputs))
    x = layers.Flatten()(layers.Conv2D(8, 3, name="second")(x))
    model = keras.Model(inputs, layers.Dense(10, name="scores")(x))
    quantized = tfc.quantize(model, "int8", np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype("float32"))
    return {
        "int8": tfc.export(quantized, folder / "int8.tflite", inference_io="int8", verify=False),
        "float": tfc.export(model, folder / "float.tflite", verify=False),
    }


def test_what_the_npu_leaves_is_named_with_the_reason(files: dict[str, tfc.Artifact]) -> None:
    found = tfc.estimate_npu(files["int8"])
    assert [one.kind for one in found.operators] == [
        "Conv2D",
        "Dequantize",
        "Cos",
        "Quantize",
        "Conv2D",
        "FullyConnected",
    ]
    assert [one.kind for one in found.on_processor] == ["Dequantize", "Cos", "Quantize"]
    assert found.operators[0].name == "first" and found.operators[4].name == "second"
    assert found.on_processor[1].reason == "Unsupported opType"
    assert "processor: Cos" in str(found) and "3 operators on the NPU, 3 on the processor" in str(found)


def test_the_figures_are_those_of_the_whole_file(files: dict[str, tfc.Artifact]) -> None:
    found = tfc.estimate_npu(files["int8"].path, "ethos-u55-128")
    assert sum(one.cycles for one in found.operators) == found.cycles > 0
    assert found.milliseconds == pytest.approx(1e3 * found.cycles / found.clock_hz, rel=1e-3)
    weights = sum(np.prod(shape) for shape in ((3, 3, 3, 4), (3, 3, 4, 8), (128, 10)))
    assert weights * 0.8 < found.flash < 3 * weights and found.sram >= 6 * 6 * 4
    wider = tfc.estimate_npu(files["int8"].path, "ethos-u85-512")
    assert wider.cycles < found.cycles and wider.clock_hz == 1e9


def test_the_npu_is_that_of_the_target(files: dict[str, tfc.Artifact]) -> None:
    found = tfc.estimate_npu(dataclasses.replace(files["int8"], accelerator="ethos-u65-256"))
    assert found.accelerator == "ethos-u65-256"
    assert tfc.estimate_npu(files["int8"]).accelerator == "ethos-u55-128"


def test_a_slower_machine_is_slower(files: dict[str, tfc.Artifact]) -> None:
    fast = tfc.estimate_npu(files["int8"])
    slow = tfc.estimate_npu(files["int8"], system="Ethos_U55_Deep_Embedded", memory="Shared_Sram")
    assert slow.milliseconds > 2 * fast.milliseconds and slow.to_dict()["system"] == "Ethos_U55_Deep_Embedded"


def test_of_a_float_file_nothing_runs_on_the_npu(files: dict[str, tfc.Artifact]) -> None:
    found = tfc.estimate_npu(files["float"])
    assert len(found.on_processor) == len(found.operators) and found.cycles == 0
    assert "unsupported DataType Float32" in found.on_processor[0].reason


def test_what_cannot_be_estimated_is_refused(files: dict[str, tfc.Artifact], tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"ethos-u55-128, .*Received: 'ethos-u55-129'"):
        tfc.estimate_npu(files["int8"], "ethos-u55-129")
    with pytest.raises(ValueError, match=r"Expected a \.tflite file"):
        tfc.estimate_npu("model.onnx")
    with pytest.raises(FileNotFoundError, match="isn't there"):
        tfc.estimate_npu(tmp_path / "none.tflite")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"bad")
    with pytest.raises(ValueError, match="can't be read"):
        tfc.estimate_npu(broken)
    with pytest.raises(ValueError, match="on which it failed"):
        tfc.estimate_npu(files["int8"], system="None_Such")


def test_without_vela_it_is_said_how_to_install_it(
    files: dict[str, tfc.Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'tfcompress\[mcu\]'"):
        tfc.estimate_npu(files["int8"])
