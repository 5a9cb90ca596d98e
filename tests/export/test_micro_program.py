"""A program for TensorFlow Lite Micro: what is written, and that it compiles, beside stand-ins for its headers."""

import re
import shutil
import subprocess

import keras
import numpy as np
import pytest
from keras import layers

import tfcompress as tfc
from tests.once import once
from tfcompress.export import micro_program
from tfcompress.export.conversion import Conversion
from tfcompress.export.micro_program import method
from tfcompress.targets import OperatorSet

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
STAND_INS = {
    "tensorflow/lite/micro/micro_mutable_op_resolver.h": """#pragma once
#include <cstdint>
enum TfLiteStatus { kTfLiteOk, kTfLiteError };
namespace tflite {
template <unsigned int n> struct MicroMutableOpResolver {
  unsigned int count = 0;
  TfLiteStatus add() { return ++count > n ? kTfLiteError : kTfLiteOk; }
METHODS
};
}
""",
    "tensorflow/lite/schema/schema_generated.h": """#pragma once
namespace tflite { struct Model {}; inline const Model* GetModel(const void*) { return nullptr; } }
""",
    "tensorflow/lite/micro/micro_interpreter.h": """#pragma once
#include "tensorflow/lite/schema/schema_generated.h"
struct Data { int8_t* int8; };
struct Tensor { Data data; };
namespace tflite {
struct MicroInterpreter {
  int8_t values[1000] = {0};
  Tensor tensor{{values}};
  template <class R> MicroInterpreter(const Model*, const R&, uint8_t*, int) {}
  TfLiteStatus AllocateTensors() { return kTfLiteOk; }
  Tensor* input(int) { return &tensor; }
  Tensor* output(int) { return &tensor; }
  TfLiteStatus Invoke() { return kTfLiteOk; }
};
}
""",
}
MAIN = """#include <cstdio>
#include "net_sketch.cc"
int main() {
  setup();
  loop();
  std::printf("%u %u %d %u", net_size, net[4], net_arena_size, resolver.count);
}
"""


@once
def quantized():
    x = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype("float32")
    parts = [layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dense(3, name="y")]
    return tfc.quantize(keras.Sequential([keras.Input((8, 8, 3), name="x"), *parts]), "int8", data=x)


def test_a_program_compiles_and_registers_what_it_needs(tmp_path):
    pytest.importorskip("tflite_micro")
    artifact = tfc.export(quantized(), tmp_path / "net.h", target="microcontroller")
    names = ["net.cc", "net.h", "net.tflite", "net_operators.h", "net_sketch.cc"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert artifact.path == tmp_path / "net.tflite"
    assert artifact.arena == tfc.footprint(artifact).arena
    registered = re.findall(r"resolver\.(\w+)\(", (tmp_path / "net_operators.h").read_text())
    assert registered == [method(kind) for kind in sorted(artifact.operators.kinds)]
    with pytest.raises(FileExistsError):
        tfc.export(quantized(), tmp_path / "net.h", target="microcontroller")
    if COMPILER is None:
        pytest.skip("no compiler of C++ here")
    for path, text in STAND_INS.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        methods = "\n".join(f"  TfLiteStatus {method(one)}() {{ return add(); }}" for one in artifact.operators.kinds)
        (tmp_path / path).write_text(text.replace("METHODS", methods))
    (tmp_path / "main.cc").write_text(MAIN)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-I", "."]
    subprocess.run([COMPILER, *flags, "main.cc", "net.cc", "-o", "program"], cwd=tmp_path, check=True)
    said = subprocess.run([tmp_path / "program"], check=True, capture_output=True, text=True).stdout.split()
    content = artifact.path.read_bytes()
    arena = -(-artifact.arena.total // 16) * 16
    assert list(map(int, said)) == [len(content), content[4], arena, len(artifact.operators.kinds)]


def test_what_needs_too_much_memory_is_refused_by_how_much(tmp_path):
    pytest.importorskip("tflite_micro")
    made = tfc.export(quantized(), tmp_path / "net.tflite", target="microcontroller", ram=100_000, flash=100_000)
    needs = {"ram": made.arena.total, "flash": made.nbytes}
    for name, said in (("ram", "1 bytes of RAM too large"), ("flash", "1 bytes of flash too large")):
        with pytest.raises(ValueError, match=f"fits into.*'less.tflite'.*{said}. Remove channels"):
            tfc.export(quantized(), tmp_path / "less.h", target="microcontroller", **{**needs, name: needs[name] - 1})
    with pytest.raises(ValueError, match="bytes of RAM too large"):
        tfc.export(quantized(), tmp_path / "less.tflite", target="microcontroller", ram=10, verify=False)
    for target, way in ((None, "export for a microcontroller"), ("ethos-u55-128", r"tfc.estimate_npu\(file, ram")):
        with pytest.raises(ValueError, match=f"Expected target='microcontroller' beside ram=.*{way}"):
            tfc.export(quantized(), tmp_path / "less.tflite", target=target, ram=10)
    with pytest.raises(ValueError, match="ram"):
        tfc.export(quantized(), tmp_path / "less.tflite", target="microcontroller", ram=0)
    assert [path.name for path in tmp_path.iterdir()] == ["net.tflite"]


def test_what_no_program_is_written_for(tmp_path):
    with pytest.raises(ValueError, match=r"Expected target='microcontroller' for a program.*Received: target=None"):
        tfc.export(quantized(), tmp_path / "net.h")
    with pytest.raises(ValueError, match="target='android'"):
        tfc.export(quantized(), path=tmp_path / "net.h", target="android")
    with pytest.raises(ValueError, match="verify=False"):
        tfc.export(quantized(), tmp_path / "net.h", target="microcontroller", verify=False)
    with pytest.raises(ValueError, match=r"one of C: letters.*'my-net.h'"):
        tfc.export(quantized(), tmp_path / "my-net.h", target="microcontroller")
    for word in ("float", "arena"):
        with pytest.raises(ValueError, match=f"no word of C.*'{word}.h'"):
            tfc.export(quantized(), tmp_path / f"{word}.h", target="microcontroller")
    pytest.importorskip("tflite_micro")
    whole = keras.Sequential([keras.Input((4,), dtype="uint32", name="x"), layers.Reshape((2, 2))])
    with pytest.raises(ValueError, match="'x' of uint32"):
        tfc.export(whole, tmp_path / "net.h", target="microcontroller")
    assert not list(tmp_path.iterdir())


def test_all_files_of_a_program_or_none_are_written(tmp_path, monkeypatch):
    pytest.importorskip("tflite_micro")
    for name in ("net.tflite", "net.cc"):
        (tmp_path / name).write_text("old")

    def fails(*args):
        raise RuntimeError("no arena")

    for place, name in ((Conversion, "arena"), (micro_program, "_sketch")):
        with monkeypatch.context() as patched:
            patched.setattr(place, name, fails)
            with pytest.raises(RuntimeError, match="no arena"):
                tfc.export(quantized(), tmp_path / "net.h", target="microcontroller", overwrite=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"net.tflite": "old", "net.cc": "old"}
    tfc.export(quantized(), tmp_path / "net.h", target="microcontroller", overwrite=True)
    assert len([path for path in tmp_path.iterdir() if path.read_bytes() != b"old"]) == 5


def test_methods_of_all_operators_are_names():
    assert method("BATCH_MATMUL") == "AddBatchMatMul"
    assert method("CONV_2D") == "AddConv2D"
    assert len({method(name) for name in OperatorSet.get("tflm").operators}) == len(OperatorSet.get("tflm").operators)
