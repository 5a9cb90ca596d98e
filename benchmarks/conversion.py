"""Processor seconds and memory from a float Keras model to an int8 file, ours proven beside the peers'; growth.

    python -m benchmarks.conversion [--rounds=3] [--network=MobileNetV2] [--growth]

Each way is a process of its own that does everything twice; the second time counts, in which nothing is imported or
set up any more. Rounds are interleaved. Processor seconds are of all threads and children: what else a busy machine
does counts little. Ours are `quantize` and `export` with its proof; the peers prove nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks.harness import FOLDER, in_a_process, in_processes, peak_mb, processor_seconds, rows_of, save, show

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

NAME = "conversion"
NETWORKS = ("DS-CNN", "MobileNetV2", "ResNet50")
SAMPLES = {"DS-CNN": 200}
IMAGES = 64
DEPTHS = (10, 100, 500, 1000, 2000)
"""Layers of the chains whose seconds show how the time grows."""

Mark = Callable[[str], None]


def network(name: str) -> tuple[Any, Any]:
    """Return a network and the samples that it is calibrated on."""
    import numpy as np

    from benchmarks.networks import chain, ds_cnn, large

    depth = int(name.removeprefix("chain ")) if name.startswith("chain ") else 0
    model = chain(depth) if depth else ds_cnn() if name == "DS-CNN" else large(name)
    shape = (SAMPLES.get(name, IMAGES), *model.input_shape[1:])
    return model, np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def ours(suffix: str) -> Callable[[Any, Any, pathlib.Path, Mark], pathlib.Path]:
    """Return our way to a file with that suffix."""

    def convert(model: Any, x: Any, folder: pathlib.Path, mark: Mark) -> pathlib.Path:
        import tfcompress as tfc

        quantized = tfc.quantize(model, "int8", x)
        mark("quantize")
        return pathlib.Path(tfc.export(quantized, folder / f"model{suffix}").path)

    return convert


def tensorflow(model: Any, x: Any, folder: pathlib.Path, mark: Mark) -> pathlib.Path:
    """Convert with TensorFlow's converter and a representative dataset."""
    from benchmarks import peers

    path = folder / "model.tflite"
    path.write_bytes(peers.tensorflow(model, x))
    return path


def ai_edge(model: Any, x: Any, folder: pathlib.Path, mark: Mark) -> pathlib.Path:
    """Convert with TensorFlow's converter, then quantize with ai-edge-quantizer."""
    from benchmarks import peers

    content = peers.tensorflow_float(model)
    mark("float file")
    path = folder / "model.tflite"
    path.write_bytes(peers.ai_edge(content, "static_wi8_ai8", x))
    return path


def onnx_runtime(model: Any, x: Any, folder: pathlib.Path, mark: Mark) -> pathlib.Path:
    """Export with Keras, then quantize with ONNX Runtime and its preprocessing."""
    import keras

    from benchmarks import peers

    model(keras.ops.zeros((1, *x.shape[1:])))  # Keras' own ONNX export wants a model that was called
    model.export(folder / "float.onnx", format="onnx", verbose=False)
    mark("float file")
    path = folder / "model.onnx"
    path.write_bytes(peers.onnx_runtime(folder / "float.onnx", x))
    return path


OURS = "tfcompress, proven"
WAYS = {
    "tflite": {
        OURS: ours(".tflite"),
        "TensorFlow's converter": tensorflow,
        "ai-edge-quantizer static_wi8_ai8": ai_edge,
    },
    "onnx": {OURS: ours(".onnx"), "Keras + quantize_static": onnx_runtime},
}


def once(kind: str, way: str, name: str) -> tuple[dict[str, float], int]:
    """Convert a network that is made anew; return the seconds of each stage, and the bytes of the file."""
    model, x = network(name)
    stages: dict[str, float] = {}
    last = processor_seconds()

    def mark(stage: str) -> None:
        nonlocal last
        now = processor_seconds()
        stages[stage], last = now - last, now

    with tempfile.TemporaryDirectory() as folder:
        path = WAYS[kind][way](model, x, pathlib.Path(folder), mark)
        mark("export" if way == OURS else "rest")
        return stages, path.stat().st_size


def measure(kind: str, way: str, name: str, times: int) -> dict[str, Any]:
    """Return the figures of the last of some conversions, all in this process."""
    for _ in range(times - 1):
        once(kind, way, name)
    stages, size = once(kind, way, name)
    return {"seconds": sum(stages.values()), "stages": stages, "peak": peak_mb(), "bytes": size}


def rows_for(name: str, rounds: int) -> list[dict[str, Any]]:
    """Measure all ways of a network in turns; return a row for each."""
    ways = [(kind, way) for kind, of_kind in WAYS.items() for way in of_kind]
    taken = in_processes({(kind, way): (NAME, "--here", kind, way, name) for kind, way in ways}, rounds)
    rows = []
    for (kind, way), samples in taken.items():
        others = [taken[pair] for pair in ways if pair[0] == kind and pair[1] != OURS]
        fastest = min(others, key=lambda other: statistics.median(each["seconds"] for each in other))
        seconds = [each["seconds"] for each in samples]
        stages = {stage: statistics.median(each["stages"][stage] for each in samples) for stage in samples[0]["stages"]}
        peak, of_peers = (
            statistics.median(each["peak"] for each in some)
            for some in (samples, min(others, key=lambda other: statistics.median(each["peak"] for each in other)))
        )
        ratios = [each["seconds"] / other["seconds"] for each, other in zip(samples, fastest, strict=True)]
        rows.append(
            {
                "network": name,
                "format": kind,
                "way": way,
                "processor s": f"{statistics.median(seconds):.2f}",
                "least to most": f"{min(seconds):.2f} to {max(seconds):.2f}",
                "of it": ", ".join(f"{stage} {each:.2f}" for stage, each in stages.items()),
                "times the fastest peer's": f"{statistics.median(ratios):.2f}",
                "peak MB": f"{peak:.0f}",
                "times the least peer's": f"{peak / of_peers:.2f}",
                "file bytes": samples[0]["bytes"],
            }
        )
    return rows


def growth() -> list[dict[str, Any]]:
    """Return a row for each depth of a chain: the seconds of a first conversion, and of each layer."""
    rows = []
    for depth in DEPTHS:
        row: dict[str, Any] = {"layers": depth}
        for kind in WAYS:
            found = in_a_process(NAME, "--here", kind, OURS, f"chain {depth}", "--times=1")
            for stage, seconds in found["stages"].items():
                row[f"{kind} {stage} s"] = f"{seconds:.2f}"
            row[f"{kind} ms per layer"] = f"{found['seconds'] / depth * 1e3:.1f}"
        rows.append(row)
        show("Seconds against layers", rows)
    return rows


def main() -> None:
    """Measure what is asked for; print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--network", choices=NETWORKS)
    parser.add_argument("--growth", action="store_true", help="seconds against layers, instead")
    parser.add_argument("--here", nargs=3, metavar=("FORMAT", "WAY", "NETWORK"), help="in this process, as JSON")
    parser.add_argument("--times", type=int, default=2, help="of which the last counts")
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure(*given.here, given.times)))
        return
    if given.growth:
        save("conversion_growth", growth(), "python -m benchmarks.conversion --growth")
        return
    names = (given.network,) if given.network else NETWORKS
    rows = [row for name in names for row in rows_for(name, given.rounds)]
    known = rows_of(NAME) if given.network and (FOLDER / f"{NAME}.json").exists() else []
    rows = [row for row in known if row["network"] not in names] + rows
    show("From a float Keras model to an int8 file", rows)
    save(NAME, rows, f"python -m benchmarks.conversion --rounds={given.rounds}")


if __name__ == "__main__":
    sys.exit(main())
