"""python -m benchmarks.quantization [--part=ptq|qat|memory] [--data=FOLDER]

Accuracy of int8 on CIFAR-10 and MNIST beside the peers; writes benchmarks/results/quantization_*.json. Without --part
all are run, which takes hours: `qat` trains ResNet-8 nine times.

    ptq     accuracy, bytes, time and parity after calibration: ResNet-8 on CIFAR-10, a small network on MNIST
    qat     accuracy of the int8 files after training with quantization, beside tfmot's
    memory  of calibration of MobileNetV2 at 96 pixels, as the number of batches grows

Both kinds of training get the same architecture, weights, batches, optimizer and schedule; the float network too, so
that what more training alone gives is seen. Each run's figures are kept in the cache, where a job that was interrupted
finds them.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import dataclasses
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data, peers
from benchmarks.files import NOTHING, File, Folder, accuracy, likeness, outputs, runner, static_peers
from benchmarks.harness import (
    Setting,
    cached,
    each_step,
    in_a_process,
    mean_and_each,
    milliseconds,
    peak_mb,
    per_round,
    run_parts,
    save,
    show,
)
from benchmarks.networks import PIXEL, Fit, carry_weights, fit, resnet8, small, trained_resnet8, trained_small

IMAGES = 512
RECIPES = ("int8", "int8_per_tensor", "int8_weights", "dynamic_int8", "int16x8", "float16")
DATA_FREE = ("int8_weights", "dynamic_int8", "float16")

SEEDS = (0, 1, 2)
EPOCHS = {"cifar10": 6, "mnist": 4}
RATE = {"cifar10": 1e-3, "mnist": 3e-4}
WAYS = ("float32", "tfcompress", "tfmot")

RANGES = ("minmax", "ema", "percentile", "mse", "entropy")
BATCHES = (10, 50, 200)
SIZE = (16, 96, 96, 3)


def ptq(setting: Setting) -> None:
    """Measure, print and save both data sets' tables."""
    for name, title in (("cifar10", "ResNet-8 on CIFAR-10"), ("mnist", "small network on MNIST")):
        train, test = getattr(data, name)(setting.data)
        model = trained_resnet8(setting.data) if name == "cifar10" else trained_small(train, setting.cache)
        calibration, x = (images.astype(np.float32) for images in (train[0][:IMAGES], test[0]))
        subject, files = Subject(model, calibration, x, test[1]), Folder(setting.cache / name)
        rows = compare(subject, files, setting.rounds)
        show(f"Post-training quantization, {title}, {len(x):,} test images", rows)
        save(f"quantization_ptq_{name}", rows, setting.command)
        rows = variants(subject, files)
        show(f"Ranges and first aid, {title}", rows)
        save(f"quantization_ranges_{name}", rows, setting.command)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A trained model, images to calibrate it, images and labels to judge it."""

    model: keras.Model
    calibration: np.ndarray
    x: np.ndarray
    y: np.ndarray


def compare(subject: Subject, folder: Folder, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each file, ours and the peers'."""
    model, calibration, x, y = subject.model, subject.calibration, subject.x, subject.y
    floats = folder.ours("float32", model)
    files = list(floats)
    for recipe in RECIPES:
        quantized = tfc.quantize(model, recipe, None if recipe in DATA_FREE else calibration)
        files += folder.ours(recipe, quantized)
        files += folder.integer_io(recipe, quantized) if recipe == "int8" else []
    files += static_peers(folder, model, floats[1].path, calibration)
    files += folder.usable(other_peers(folder, model, calibration))
    times = per_round(each_step({file: runner(file.path, x) for file in files}, rounds))
    scores = accuracy(outputs(model, x), y)
    rows = [{"model": "Keras float32", "format": "Keras", "accuracy %": round(scores, 2), "bytes": NOTHING}]
    rows[0] |= dict.fromkeys(("ms", "middle half", *PARITY), NOTHING)
    simulated: dict[int, np.ndarray] = {}
    for file, taken in times.items():
        rows.append(row(file, x, y, simulated) | milliseconds(taken))
    return [{key: line[key] for key in rows[0]} for line in rows]


PARITY = ("largest difference", "equal %", "argmax equal %", "Keras accuracy %")


def row(file: File, x: np.ndarray, y: np.ndarray, simulated: dict[int, np.ndarray]) -> dict[str, Any]:
    """Return what is known of a file but for its time."""
    scores = outputs(file.path, x)
    made = {
        "model": file.way,
        "format": file.format,
        "accuracy %": round(accuracy(scores, y), 2),
        "bytes": file.path.stat().st_size,
    }
    if file.simulation is None:
        return made | dict.fromkeys(PARITY, NOTHING)
    if id(file.simulation) not in simulated:
        simulated[id(file.simulation)] = outputs(file.simulation, x)
    expected = simulated[id(file.simulation)]
    return made | likeness(file, scores, expected) | {"Keras accuracy %": round(accuracy(expected, y), 2)}


def other_peers(folder: Folder, model: keras.Model, calibration: np.ndarray) -> list[File]:
    """Make the peers' files in the other modes."""
    floating = peers.tensorflow_float(model)
    made = {
        "TensorFlow float32": floating,
        "TensorFlow float16": peers.tensorflow_float(model, half=True),
        "TensorFlow dynamic int8": peers.tensorflow(model),
        "TensorFlow int16x8": peers.tensorflow(model, calibration, activation_bits=16),
        "ai-edge-quantizer int8 weights": peers.ai_edge(floating, "weight_only_wi8_afp32"),
        "ai-edge-quantizer dynamic int8": peers.ai_edge(floating, "dynamic_wi8_afp32"),
        "ai-edge-quantizer int16x8": peers.ai_edge(floating, "static_wi8_ai16", calibration),
    }
    return [folder.peer(way, ".tflite", content) for way, content in made.items()]


def variants(subject: Subject, folder: Folder) -> list[dict[str, Any]]:
    """Return a row for each way to find ranges, and for each switch of first aid."""
    model, calibration, x, y = subject.model, subject.calibration, subject.x, subject.y
    tried: dict[str, tuple[tfc.QuantizeConfig, dict[str, Any]]] = {
        f"range {name}": (tfc.QuantizeConfig(activations=tfc.ActivationSpec(range=name)), {}) for name in RANGES
    }
    tried["weights mse"] = (tfc.QuantizeConfig(weights=tfc.WeightSpec(range="mse")), {})
    per_tensor = tfc.QuantizeConfig.get("int8_per_tensor")
    for switch in ("equalize", "correct_bias", "reestimate_batch_norm"):
        if switch == "reestimate_batch_norm" and not any("batch_norm" in layer.name for layer in model.layers):
            continue
        tried[switch] = (tfc.QuantizeConfig(), {switch: True})
    tried["int8_per_tensor"] = (per_tensor, {})
    tried["int8_per_tensor, equalize"] = (per_tensor, {"equalize": True})
    tried["int8_per_tensor, equalize, correct_bias"] = (per_tensor, {"equalize": True, "correct_bias": True})
    rows = []
    for name, (config, switches) in tried.items():
        quantized = tfc.quantize(model, config, calibration, **switches)
        rows.append({"variant": name, "Keras %": round(accuracy(outputs(quantized, x), y), 2)})
        for file in folder.ours(name, quantized):
            rows[-1][f"{file.format} %"] = round(accuracy(outputs(file.path, x), y), 2)
    return rows


def qat(setting: Setting) -> None:
    """Train, measure, print and save."""
    rows = []
    for name in ("mnist", "cifar10"):
        split = getattr(data, name)(setting.data)
        trained = trained_resnet8(setting.data) if name == "cifar10" else trained_small(split[0], setting.cache)
        start = accuracy(outputs(trained, split[1][0].astype(np.float32)), split[1][1])
        # By seed first, so that a job that is cut short has compared something.
        results: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for seed in SEEDS:
            for way, figures in results.items():
                figures.append(once(Job(name, way, seed, trained, *split), setting.cache))
        rows += [summary(name, way, of_way, start) for way, of_way in results.items()]
        show(f"Training with quantization, {name}", rows[-len(WAYS) :])
        save("quantization_qat", rows, setting.command)


def summary(name: str, way: str, results: list[dict[str, Any]], start: float) -> dict[str, Any]:
    """Return the row of one way: means, and every seed."""

    def column(key: str) -> str:
        values = [result[key] for result in results if key in result]
        return mean_and_each(values) if values else "-"

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


def memory(setting: Setting) -> None:
    """Measure, each in a process of its own; print and save."""
    rows = []
    for name in RANGES:
        row: dict[str, Any] = {"range": name}
        for count in BATCHES:
            before, most = in_a_process("quantization", "--here=calibrated", name, str(count))
            row[f"{count} batches, MB"] = round(most - before)
        rows.append(row)
    show("Memory that calibration adds, at most", rows)
    save("quantization_memory", rows, setting.command)


def calibrated(name: str, count: str) -> list[float]:
    """Return the megabytes before and after calibration."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(SIZE[1:], weights=None)
    quantized = tfc.quantize(model, tfc.QuantizeConfig(activations=tfc.ActivationSpec(range=name)))

    def batches() -> Iterator[Any]:
        generator = np.random.default_rng(0)
        for _ in range(int(count)):
            yield generator.standard_normal(SIZE, np.float32)

    before = peak_mb()
    tfc.calibrate(quantized, batches())
    return [before, peak_mb()]


if __name__ == "__main__":
    run_parts(
        "quantization",
        __doc__,
        {"ptq": ptq, "qat": qat, "memory": memory},
        rounds=31,
        needed=dict.fromkeys(("ptq", "qat"), ("cifar10_jpeg.npz", "mnist.npz", "resnet8_cifar10_jpeg.keras")),
        apart={"calibrated": calibrated},
    )
