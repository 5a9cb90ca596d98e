"""Files without zeros beside dense ones: bytes, and time of one inference on one thread.

    python -m benchmarks.sparse [--rounds=40]

The zeros are made by hand: of a multilayer perceptron in blocks of 16 inputs of one unit, which the sparse kernels
take, or anywhere; of MobileNetV2's 1x1 convolutions anywhere. The files of a network are timed in turns.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np

import tfcompress as tfc
from benchmarks.harness import each_step, per_round, save, show

ROUNDS = 40
MILLISECONDS = 5
SPARSE = {"dense": False, "auto": "auto", "sparse": True}


def zeros(shape: tuple[int, ...], share: float, block: int, generator: np.random.Generator) -> np.ndarray:
    """Return a mask with `share` of its blocks of inputs (the last dimension but one) zero."""
    *first, inputs, outputs = shape
    kept = generator.random((*first, inputs // block, outputs)) >= share
    return np.repeat(kept, block, axis=-2)


def perceptron(share: float, block: int) -> keras.Model:
    """Return 784-1024-1024-10 with zeros in each kernel."""
    generator = np.random.default_rng(0)
    units = [keras.layers.Dense(n, activation=a) for n, a in ((1024, "relu"), (1024, "relu"), (10, None))]
    model = keras.Sequential([keras.Input((784,)), *units])
    for layer in model.layers:
        layer.kernel.assign(np.asarray(layer.kernel) * zeros(layer.kernel.shape, share, block, generator))
    return model


def mobilenet(share: float) -> keras.Model:
    """Return MobileNetV2 with zeros in its 1x1 convolutions."""
    generator = np.random.default_rng(0)
    model = keras.applications.MobileNetV2(weights=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1):
            layer.kernel.assign(np.asarray(layer.kernel) * zeros(layer.kernel.shape, share, 1, generator))
    return model


def networks() -> Iterator[tuple[str, keras.Model, tuple[str, ...]]]:
    """Yield (name, model, in what numbers)."""
    whole = ("float32", "float16", "int8", "dynamic_int8")
    yield "MLP, 90 % in blocks of 16", perceptron(0.9, 16), whole
    yield "MLP, 96 % in blocks of 16", perceptron(0.96, 16), ("float32", "int8", "dynamic_int8")
    yield "MLP, 90 % anywhere", perceptron(0.9, 1), ("float32", "int8")
    yield "MobileNetV2, 80 % anywhere", mobilenet(0.8), ("float32", "float16", "int8")


def write(model: keras.Model, numbers: str, folder: Path) -> list[tfc.Artifact]:
    """Return the dense and the sparse files of one model."""
    precision = "float16" if numbers == "float16" else "float32"
    if not numbers.startswith("float"):
        data = np.random.default_rng(0).normal(size=(16, *model.input_shape[1:])).astype("float32")
        model = tfc.quantize(model, numbers, data)
    return [
        tfc.export(model, folder / f"{way}.tflite", precision=precision, sparse=sparse, overwrite=True)
        for way, sparse in SPARSE.items()
    ]


def inference(path: Path) -> Callable[[], object]:
    """Return a function that runs a file on one thread, and neither sets inputs nor reads outputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    interpreter.set_tensor(taken["index"], np.random.default_rng(0).normal(size=taken["shape"]).astype("float32"))
    return interpreter.invoke


def measure(rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Return a row for each file."""
    rows = []
    for name, model, kinds in networks():
        for numbers in kinds:
            artifacts = write(model, numbers, folder)
            steps = {way: inference(artifact.path) for way, artifact in zip(SPARSE, artifacts, strict=True)}
            times = per_round(each_step(steps, rounds, milliseconds=MILLISECONDS))
            for artifact, (way, taken) in zip(artifacts, times.items(), strict=True):
                rows.append(
                    {
                        "network": name,
                        "numbers": numbers,
                        "file": way,
                        "kB": f"{artifact.nbytes / 1000:,.1f}",
                        "zip kB": f"{len(zlib.compress(artifact.path.read_bytes(), 9)) / 1000:,.1f}",
                        "smaller": f"{artifacts[0].nbytes / artifact.nbytes:.2f}x",
                        "ms": f"{np.median(taken):.4f}",
                        "faster": f"{np.median(times['dense'] / taken):.2f}x",
                        "stored sparsely": artifact.notes[0].removeprefix("sparse: ") if artifact.notes else "",
                    }
                )
            show(f"{name}, {numbers}", [{key: row[key] for key in list(row)[2:8]} for row in rows[-len(SPARSE) :]])
    return rows


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(rounds, Path(folder))
    save("sparse", rows, command=f"python -m benchmarks.sparse --rounds={rounds}")


if __name__ == "__main__":
    main()
