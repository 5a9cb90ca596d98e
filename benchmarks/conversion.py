"""python -m benchmarks.conversion [--part=DS-CNN|MobileNetV2|ResNet50|growth|float|memory] [--rounds=3]

What the way from a Keras model to a file costs; writes benchmarks/results/conversion*.json and export*.json. Without
--part the three networks are measured.

    DS-CNN, MobileNetV2, ResNet50
            processor seconds and memory to an int8 file, ours proven, beside the peers', which prove nothing
    growth  seconds of a chain of layers, as its length grows
    float   time and memory to a float file of MobileNetV2, beside the bare converters
    memory  of quantizing and of exporting large models, beyond the model itself, in times of its weights

Each way is a process of its own. To int8 it does everything twice and the second time counts, in which nothing is
imported or set up any more; processor seconds are of all threads and children. Rounds are interleaved, so that a busy
machine hits all ways alike. Building a network is not timed, but is in the peak of memory. For `memory` the process has
done the same to a small network before: what libraries take when they are loaded isn't counted. Its rows are added one
by one; delete results/export_memory.json to begin anew.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.harness import (
    FOLDER,
    Memory,
    Setting,
    clocks,
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

NAME = "conversion"
NETWORKS = ("DS-CNN", "MobileNetV2", "ResNet50")
SAMPLES = {"DS-CNN": 200}
IMAGES = 64
DEPTHS = (10, 100, 500, 1000, 2000)
"""Layers of the chains whose seconds show how the time grows."""

MEMORY = "export_memory"
LARGE_NETWORKS = ("dense", "convolutions + batch norm", "LSTM")
DONE = ("float32 .tflite", "float32 .onnx", "quantize", "int8 .tflite", "int8 .onnx")
LARGE, SMALL = 100, 0.02
"""Millions of parameters."""


@dataclasses.dataclass
class Job:
    """One way to a file.

    Attributes:
        model: The float Keras model.
        x: Samples to calibrate on.
        folder: For the files.
        stages: The processor seconds of each part of the way.
    """

    model: Any
    x: Any
    folder: pathlib.Path
    stages: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _, self._last = clocks()

    def mark(self, stage: str) -> None:
        """What was done since the last mark is a part of the way."""
        _, now = clocks()
        self.stages[stage], self._last = now - self._last, now


def ours(suffix: str, verify: bool, job: Job) -> pathlib.Path:
    """Export the float model."""
    from tfcompress.export import export

    return pathlib.Path(export(job.model, job.folder / f"model{suffix}", verify=verify).path)


def ours_int8(suffix: str, job: Job) -> pathlib.Path:
    """Quantize, then export with proof."""
    import tfcompress as tfc

    quantized = tfc.quantize(job.model, "int8", job.x)
    job.mark("quantize")
    return pathlib.Path(tfc.export(quantized, job.folder / f"model{suffix}").path)


def tensorflow_int8(job: Job) -> pathlib.Path:
    """Convert with TensorFlow's converter and a representative dataset."""
    from benchmarks import peers

    path = job.folder / "model.tflite"
    path.write_bytes(peers.tensorflow(job.model, job.x))
    return path


def ai_edge(job: Job) -> pathlib.Path:
    """Convert with TensorFlow's converter, then quantize with ai-edge-quantizer."""
    from benchmarks import peers

    content = peers.tensorflow_float(job.model)
    job.mark("float file")
    path = job.folder / "model.tflite"
    path.write_bytes(peers.ai_edge(content, "static_wi8_ai8", job.x))
    return path


def onnx_runtime(job: Job) -> pathlib.Path:
    """Export with Keras, then quantize with ONNX Runtime and its preprocessing."""
    from benchmarks import peers

    called(job.model)
    exported = keras_onnx(job)
    job.mark("float file")
    path = job.folder / "int8.onnx"
    path.write_bytes(peers.onnx_runtime(exported, job.x))
    return path


def called(model: Any) -> None:
    """Call a model once, which Keras' own ONNX export wants."""
    import keras

    model(keras.ops.zeros((1, *model.input_shape[1:])))


def keras_onnx(job: Job) -> pathlib.Path:
    """Export with Keras."""
    job.model.export(job.folder / "model.onnx", format="onnx", verbose=False)
    return job.folder / "model.onnx"


def tensorflow(job: Job) -> pathlib.Path:
    """Convert with TensorFlow's converter."""
    import tensorflow as tf

    path = job.folder / "model.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(job.model).convert())
    return path


def command_onnx(job: Job) -> pathlib.Path:
    """Export the way tf2onnx documents: a SavedModel, and its command line program."""
    job.model.export(job.folder / "saved", format="tf_saved_model", verbose=False)
    path = job.folder / "model.onnx"
    command = ["--saved-model", str(job.folder / "saved"), "--output", str(path), "--opset", "18"]
    subprocess.run([sys.executable, "-m", "tf2onnx.convert", *command], check=True, capture_output=True)
    return path


OURS = "tfcompress, proven"
Ways = dict[str, dict[str, Callable[[Job], pathlib.Path]]]
INT8: Ways = {
    "tflite": {
        OURS: functools.partial(ours_int8, ".tflite"),
        "TensorFlow's converter": tensorflow_int8,
        "ai-edge-quantizer static_wi8_ai8": ai_edge,
    },
    "onnx": {OURS: functools.partial(ours_int8, ".onnx"), "Keras + quantize_static": onnx_runtime},
}
BARE = {"tflite": "TFLiteConverter.from_keras_model", "onnx": "model.export(format='onnx')"}
FLOAT: Ways = {
    "tflite": {
        "tfcompress, verify=False": functools.partial(ours, ".tflite", False),
        "tfcompress, verify=True": functools.partial(ours, ".tflite", True),
        BARE["tflite"]: tensorflow,
    },
    "onnx": {
        "tfcompress, verify=False": functools.partial(ours, ".onnx", False),
        "tfcompress, verify=True": functools.partial(ours, ".onnx", True),
        BARE["onnx"]: keras_onnx,
        "SavedModel + tf2onnx command": command_onnx,
    },
}


def network(name: str) -> tuple[Any, Any]:
    """Return a network and the samples that it is calibrated on."""
    import numpy as np

    from benchmarks.networks import chain, ds_cnn, large

    depth = int(name.removeprefix("chain ")) if name.startswith("chain ") else 0
    model = chain(depth) if depth else ds_cnn() if name == "DS-CNN" else large(name)
    shape = (SAMPLES.get(name, IMAGES), *model.input_shape[1:])
    return model, np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def to_int8(kind: str, way: str, name: str, times: str) -> dict[str, Any]:
    """Return the figures of the last of some conversions in this process; the network is made anew for each."""
    for _ in range(int(times) - 1):
        once(INT8[kind][way], *network(name))
    return once(INT8[kind][way], *network(name))


def to_float(kind: str, way: str) -> dict[str, Any]:
    """Return the figures of one export of MobileNetV2."""
    model, x = network("MobileNetV2")
    called(model)
    return once(FLOAT[kind][way], model, x)


def once(way: Callable[[Job], pathlib.Path], model: Any, x: Any) -> dict[str, Any]:
    """Return the seconds of the clock and of processors, also in each stage, the peak in MB and the file's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        begun, _ = clocks()
        job = Job(model, x, pathlib.Path(folder))
        path = way(job)
        job.mark("export" if "quantize" in job.stages else "rest")
        ended, _ = clocks()
        return {
            "clock": ended - begun,
            "seconds": sum(job.stages.values()),
            "stages": job.stages,
            "peak": peak_mb(),
            "bytes": path.stat().st_size,
        }


def middle(samples: Sequence[dict[str, Any]], key: str) -> float:
    """Return the median of one of the figures."""
    return statistics.median(sample[key] for sample in samples)


def spread(samples: Sequence[dict[str, Any]], key: str, heading: str) -> dict[str, str]:
    """Return the columns of one of the figures."""
    values = [sample[key] for sample in samples]
    return {heading: f"{statistics.median(values):.2f}", "least to most": f"{min(values):.2f} to {max(values):.2f}"}


def beside_peers(name: str, setting: Setting) -> None:
    """Measure all ways of a network to int8 in turns; print, and save beside the other networks'."""
    ways = [(kind, way) for kind, of_kind in INT8.items() for way in of_kind]
    taken = in_processes({pair: (NAME, "--here=to_int8", *pair, name, "2") for pair in ways}, setting.rounds)
    rows = []
    for (kind, way), samples in taken.items():
        others = [taken[pair] for pair in ways if pair[0] == kind and pair[1] != OURS]
        fastest = min(others, key=lambda other: middle(other, "seconds"))
        stages = {stage: statistics.median(each["stages"][stage] for each in samples) for stage in samples[0]["stages"]}
        ratios = [each["seconds"] / other["seconds"] for each, other in zip(samples, fastest, strict=True)]
        least = min(middle(other, "peak") for other in others)
        rows.append(
            {
                "network": name,
                "format": kind,
                "way": way,
                **spread(samples, "seconds", "processor s"),
                "of it": ", ".join(f"{stage} {each:.2f}" for stage, each in stages.items()),
                "times the fastest peer's": f"{statistics.median(ratios):.2f}",
                "peak MB": f"{middle(samples, 'peak'):.0f}",
                "times the least peer's": f"{middle(samples, 'peak') / least:.2f}",
                "file bytes": samples[0]["bytes"],
            }
        )
    show("From a float Keras model to an int8 file", rows)
    known = rows_of(NAME) if (FOLDER / f"{NAME}.json").exists() else []
    rows += [row for row in known if row["network"] != name]
    rows.sort(key=lambda row: NETWORKS.index(row["network"]))
    save(NAME, rows, f"python -m benchmarks.conversion --rounds={setting.rounds}")


def growth(setting: Setting) -> None:
    """Measure the first conversion of each chain; print and save."""
    rows = []
    for depth in DEPTHS:
        row: dict[str, Any] = {"layers": depth}
        for kind in INT8:
            found = in_a_process(NAME, "--here=to_int8", kind, OURS, f"chain {depth}", "1")
            for stage, seconds in found["stages"].items():
                row[f"{kind} {stage} s"] = f"{seconds:.2f}"
            row[f"{kind} ms per layer"] = f"{found['seconds'] / depth * 1e3:.1f}"
        rows.append(row)
        show("Seconds against layers", rows)
    save("conversion_growth", rows, setting.command)


def beside_bare(setting: Setting) -> None:
    """Measure all ways to a float file in turns; print and save."""
    ways = [(kind, way) for kind, of_kind in FLOAT.items() for way in of_kind]
    taken = in_processes({pair: (NAME, "--here=to_float", *pair) for pair in ways}, setting.rounds)
    rows = []
    for (kind, way), samples in taken.items():
        bare = taken[kind, BARE[kind]]
        rows.append(
            {
                "format": kind,
                "way": way,
                **spread(samples, "clock", "seconds"),
                "time ratio": f"{middle(samples, 'clock') / middle(bare, 'clock'):.2f}",
                "peak MB": f"{middle(samples, 'peak'):.0f}",
                "memory ratio": f"{middle(samples, 'peak') / middle(bare, 'peak'):.2f}",
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
    for name in LARGE_NETWORKS:
        for way in DONE:
            asked = (NAME, "--here=memory_of", name, str(LARGE), way)
            key = {"network": name, "way": way}
            collected(MEMORY, setting.command, key, lambda asked=asked: in_a_process(*asked))
    show(f"Memory beyond a model of {LARGE}M parameters", rows_of(MEMORY))


if __name__ == "__main__":
    run_parts(
        NAME,
        __doc__,
        {
            **{name: functools.partial(beside_peers, name) for name in NETWORKS},
            "growth": growth,
            "float": beside_bare,
            "memory": memory,
        },
        rounds=3,
        apart={"to_int8": to_int8, "to_float": to_float, "memory_of": memory_of},
        by_hand=("growth", "float", "memory"),
    )
