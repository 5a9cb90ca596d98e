"""What an `Artifact` knows of its file, and the array of C that it writes."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest

import tfcompress as tfc
from tfcompress.runtime.integer_io import io_grids
from tfcompress.runtime.opening import open_runner

L = keras.layers


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_scales_and_operators_of_an_integer_file(tmp_path, suffix):
    model = keras.Sequential([keras.Input((8,), name="x"), L.Dense(6, activation="relu"), L.Dense(3, name="y")])
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    made = tfc.export(tfc.quantize(model, "int8", x), tmp_path / f"m.{suffix}", inference_io="int8")
    for artifact in (made, tfc.Artifact.open(made.path)):
        (given,), (got,) = artifact.inputs.values(), artifact.outputs.values()
        assert [(info.dtype, info.scale, info.zero_point) for info in (given, got)] == [
            ("int8", *grid) for grid in map(io_grids(open_runner(made.path)).get, ("x", "y"))
        ]
        assert given.scale == pytest.approx((x.max() - x.min()) / 255, rel=1e-4)
        expected = {"FULLY_CONNECTED": 2} if suffix == "tflite" else {"Gemm": 2}
        assert expected.items() <= {**artifact.operators.kinds}.items()
        assert f"q stands for {given.scale:.9g} * " in str(artifact)


def test_an_array_of_c_holds_the_bytes_and_is_written_whole(tmp_path):
    model = keras.Sequential([keras.Input((4,), name="x"), L.Dense(2)])
    artifact = tfc.export(model, tmp_path / "my net.tflite", verify=False)
    source, header = artifact.c_array(tmp_path / "my net.cc")
    text = source.read_text()
    numbers = [int(found, 16) for found in re.findall(r"0x\w\w", text)]
    assert bytes(numbers) == artifact.path.read_bytes()
    assert f"const unsigned int my_net_size = {len(numbers)};" in text and '#include "my net.h"' in text
    assert "// input x: float32 (1, 4)" in header.read_text()
    assert "// operators: 1 FULLY_CONNECTED" in header.read_text()
    with pytest.raises(FileExistsError):
        artifact.c_array(source)
    with pytest.raises(ValueError, match="Expected `name` to be a name of C.* Received: name='2nd'"):
        artifact.c_array(source, name="2nd", overwrite=True)
    onnx = tfc.export(model, tmp_path / "m.onnx", verify=False)
    with pytest.raises(ValueError, match="Expected a .tflite file, which microcontrollers run"):
        onnx.c_array(tmp_path / "other.cc")
