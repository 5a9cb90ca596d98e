"""Time and memory of export.

    python -m benchmarks.export [--part=time|memory] [--rounds=5]

    time    and peak memory, beside the bare converters': MobileNetV2 at 224, to TFLite and ONNX
    memory  of quantizing and of exporting large models, beyond the model itself, in times of its weights

Every measurement is a process of its own. For `time` building the model is not timed, but is in its peak memory, and
the rounds are interleaved, so that a busy machine hits all ways alike. For `memory` the process has done the same to a
small network before: what libraries take when they are loaded isn't counted. Its rows are added one by one; delete
results/export_memory.json to begin anew.
"""

from __future__ import annotations

import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from benchmarks.harness import (
    Memory,
    Setting,
    collected,
    in_a_process,
    in_processes,
    peak_mb,
    rows_of,
    run_parts,
    save,
    show,
)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

MEMORY = "export_memory"
NETWORKS = ("dense", "convolutions + batch norm", "LSTM")
DONE = ("float32 .tflite", "float32 .onnx", "quantize", "int8 .tflite", "int8 .onnx")
LARGE, SMALL = 100, 0.02
"""Millions of parameters."""


def ours(suffix: str, verify: bool) -> Callable[[Any, pathlib.Path], pathlib.Path]:
    """Return our way to a file with that suffix."""

    def convert(model: Any, folder: pathlib.Path) -> pathlib.Path:
        from tfcompress.export import export

        return pathlib.Path(export(model, folder / f"model{suffix}", verify=verify).path)

    return convert


def bare_tflite(model: Any, folder: pathlib.Path) -> pathlib.Path:
    """Convert with TensorFlow's converter."""
    import tensorflow as tf

    path = folder / "model.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return path


def bare_onnx(model: Any, folder: pathlib.Path) -> pathlib.Path:
    """Export with Keras."""
    model.export(folder / "model.onnx", format="onnx", verbose=False)
    return folder / "model.onnx"


def command_onnx(model: Any, folder: pathlib.Path) -> pathlib.Path:
    """Export the way tf2onnx documents: a SavedModel, and its command line program."""
    model.export(folder / "saved", format="tf_saved_model", verbose=False)
    path = folder / "model.onnx"
    command = ["--saved-model", str(folder / "saved"), "--output", str(path), "--opset", "18"]
    subprocess.run([sys.executable, "-m", "tf2onnx.convert", *command], check=True, capture_output=True)
    return path


WAYS = {
    "tflite": {
        "tfcompress, verify=False": ours(".tflite", False),
        "tfcompress, verify=True": ours(".tflite", True),
        "TFLiteConverter.from_keras_model": bare_tflite,
    },
    "onnx": {
        "tfcompress, verify=False": ours(".onnx", False),
        "tfcompress, verify=True": ours(".onnx", True),
        "model.export(format='onnx')": bare_onnx,
        "SavedModel + tf2onnx command": command_onnx,
    },
}
BARE = {"tflite": "TFLiteConverter.from_keras_model", "onnx": "model.export(format='onnx')"}


def time_of(kind: str, way: str) -> dict[str, float]:
    """Return the figures of one export of a network that is built here."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2((224, 224, 3), weights=None)
    model(keras.ops.zeros((1, 224, 224, 3)))  # Keras' own ONNX export wants a model that was called
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = WAYS[kind][way](model, pathlib.Path(folder))
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "peak": peak_mb(), "bytes": path.stat().st_size}


def times(setting: Setting) -> None:
    """Measure, print and save."""
    ways = [(kind, way) for kind, of_kind in WAYS.items() for way in of_kind]
    taken = in_processes({pair: ("export", "--here=time_of", *pair) for pair in ways}, setting.rounds)
    rows = []
    for (kind, way), samples in taken.items():
        seconds = [sample["seconds"] for sample in samples]
        peak = statistics.median(sample["peak"] for sample in samples)
        bare = taken[kind, BARE[kind]]
        bare_seconds, bare_peak = (statistics.median(sample[key] for sample in bare) for key in ("seconds", "peak"))
        rows.append(
            {
                "format": kind,
                "way": way,
                "seconds": f"{statistics.median(seconds):.2f}",
                "least to most": f"{min(seconds):.2f} to {max(seconds):.2f}",
                "time ratio": f"{statistics.median(seconds) / bare_seconds:.2f}",
                "peak MB": f"{peak:.0f}",
                "memory ratio": f"{peak / bare_peak:.2f}",
                "file MB": f"{samples[0]['bytes'] / 1e6:.2f}",
            }
        )
    show("Export of MobileNetV2 at 224", rows)
    save("export", rows, f"{setting.command} --rounds={setting.rounds}")


def prepared(name: str, millions: float, way: str) -> Any:
    """Return the model that a way is measured on."""
    import numpy as np

    import tfcompress as tfc
    from benchmarks.networks import large_layers

    model = large_layers(name, millions)
    x = np.random.default_rng(0).standard_normal((4, *model.input_shape[1:]), np.float32)
    return (tfc.quantize(model, "int8", x) if way.startswith("int8") else model), x


def memory_of(name: str, millions: str, way: str) -> dict[str, Any]:
    """Return the figures of one way, measured here."""
    import tfcompress as tfc
    from tfcompress.core.out_of_memory import LARGE as MUCH
    from tfcompress.core.out_of_memory import give_back

    def do(model: Any, x: Any) -> int:
        if way == "quantize":
            tfc.quantize(model, "int8", x)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            return int(tfc.export(model, pathlib.Path(folder, f"model{way.split()[1]}")).nbytes)

    do(*prepared(name, SMALL, way))
    model, x = prepared(name, float(millions), way)
    weights = sum(math.prod(weight.shape) * 4 for weight in network_weights(model))
    give_back(MUCH)
    with Memory() as memory:
        size = do(model, x)
    return {
        "weights MB": round(weights / 2**20),
        "peak MB": round(memory.more),
        "times the weights": f"{memory.more * 2**20 / weights:.2f}",
        "file MB": round(size / 2**20) if size else "",
    }


def network_weights(model: Any) -> list[Any]:
    """Return the weights of the layers that hold the parameters."""
    return [weight for weight in model.weights if weight.path.rsplit("/", 1)[-1].endswith("kernel")]


def memory(setting: Setting) -> None:
    """Measure what is not yet known; print and save."""
    for name in NETWORKS:
        for way in DONE:
            asked = ("export", "--here=memory_of", name, str(LARGE), way)
            key = {"network": name, "way": way}
            collected(MEMORY, setting.command, key, lambda asked=asked: in_a_process(*asked))
    show(f"Memory beyond a model of {LARGE}M parameters", rows_of(MEMORY))


if __name__ == "__main__":
    run_parts(
        "export",
        __doc__,
        {"time": times, "memory": memory},
        rounds=5,
        needed={},
        apart={"time_of": time_of, "memory_of": memory_of},
    )
