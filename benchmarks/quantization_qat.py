"""Training with quantization from the trained float weights, beside tfmot's: accuracy of the int8 files, several seeds.

Both train the same architecture from the same weights on the same batches, with the same optimizer and schedule; the
float network too, so that what more training alone gives is seen. Each run's figures are kept in the cache, where a
job that was interrupted finds them.
"""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data, peers
from benchmarks.fitting import Fit, fit
from benchmarks.quantization_files import accuracy, outputs
from benchmarks.quantization_networks import PIXEL, carry_weights, resnet8, small, trained_resnet8
from benchmarks.quantization_ptq import IMAGES, trained_small
from benchmarks.results import cached, save, show

SEEDS = (0, 1, 2)
EPOCHS = {"cifar10": 6, "mnist": 4}
RATE = {"cifar10": 1e-3, "mnist": 3e-4}
WAYS = ("float32", "tfcompress", "tfmot")


def run(folder: pathlib.Path, cache: pathlib.Path, rounds: int, command: str) -> None:
    """Train, measure, print and save."""
    del rounds
    rows = []
    for name in ("mnist", "cifar10"):
        split = getattr(data, name)(folder)
        trained = trained_resnet8(folder) if name == "cifar10" else trained_small(split[0], cache)
        start = accuracy(outputs(trained, split[1][0].astype(np.float32)), split[1][1])
        # By seed first, so that a job that is cut short has compared something.
        results: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for seed in SEEDS:
            for way, figures in results.items():
                figures.append(once(Job(name, way, seed, trained, *split), cache))
        rows += [summary(name, way, of_way, start) for way, of_way in results.items()]
        show(f"Training with quantization, {name}", rows[-len(WAYS) :])
        save("quantization_qat", rows, command)


def summary(name: str, way: str, results: list[dict[str, Any]], start: float) -> dict[str, Any]:
    """Return the row of one way: means, and every seed."""

    def column(key: str) -> str:
        values = [result[key] for result in results if key in result]
        if not values:
            return "-"
        return f"{statistics.mean(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})"

    return {
        "data": f"{name}, {EPOCHS[name]} epochs",
        "way": way,
        "float before %": f"{start:.2f}",
        "Keras %": column("keras"),
        "TFLite int8 %": column("tflite"),
        "ONNX int8 %": column("onnx"),
        "TFLite bytes": results[0].get("bytes", "-"),
        "processor s per epoch": round(statistics.median(result["seconds"] for result in results), 1),
    }


@dataclasses.dataclass(frozen=True)
class Job:
    """One run: which data, which way to train, which seed, from which model, on which images."""

    name: str
    way: str
    seed: int
    start: keras.Model
    train: data.Arrays
    test: data.Arrays

    @property
    def x(self) -> np.ndarray:
        """Images to judge by."""
        return self.test[0].astype(np.float32)


def once(job: Job, cache: pathlib.Path) -> dict[str, Any]:
    """Return the figures of one run, from the cache if they are there."""

    def make() -> dict[str, Any]:
        keras.utils.set_random_seed(job.seed)
        return with_tfmot(job) if job.way == "tfmot" else with_keras(job)

    return cached(cache / "qat" / f"{job.name}_{job.way}_{job.seed}.json", make)


def with_keras(job: Job) -> dict[str, Any]:
    """Train the float model, or ours: quantized and calibrated first."""
    model = keras.models.clone_model(job.start)
    model.set_weights(job.start.get_weights())
    if job.way == "tfcompress":
        model = tfc.quantize(model, "int8", job.train[0][:IMAGES].astype(np.float32))
    seconds = train(job, keras, model, lambda x: x)
    figures = {"seconds": seconds, "keras": accuracy(outputs(model, job.x), job.test[1])}
    if job.way == "float32":
        return figures
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("tflite", "onnx"):
            artifact = tfc.export(model, pathlib.Path(folder) / f"model.{kind}")
            figures[kind] = accuracy(outputs(artifact.path, job.x), job.test[1])
            figures.setdefault("bytes", artifact.nbytes)
    return figures


def with_tfmot(job: Job) -> dict[str, Any]:
    """Train tfmot's model of tf_keras; it takes images that are scaled already, for it quantizes no Rescaling."""
    quantization = peers.tfmot().quantization.keras
    import tf_keras

    tf_keras.utils.set_random_seed(job.seed)
    plain = small(tf_keras) if job.name == "mnist" else resnet8(tf_keras, rescaling=False)
    carry_weights(job.start, plain)
    model = quantization.quantize_model(plain)

    def scaled(x: np.ndarray) -> np.ndarray:
        return x / np.float32(255) if job.name == "mnist" else x * np.float32(PIXEL) - np.float32(1)

    seconds = train(job, tf_keras, model, scaled)
    x = scaled(job.x)
    figures = {"seconds": seconds, "keras": accuracy(model.predict(x, batch_size=256, verbose=0), job.test[1])}
    content = peers.tfmot_file(model)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.tflite"
        path.write_bytes(content)
        figures["tflite"] = accuracy(outputs(path, x), job.test[1])
    return figures | {"bytes": len(content)}


def train(job: Job, module: Any, model: Any, scaled: Callable[[np.ndarray], np.ndarray]) -> float:
    """Train a model of either Keras; return the seconds of all processors in an epoch."""
    how = Fit(EPOCHS[job.name], RATE[job.name], job.seed, augment=job.name == "cifar10")
    return fit(how, module, model, job.train, scaled)
