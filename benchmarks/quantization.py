"""python -m benchmarks.quantization [--part=ptq|qat|speed|step|memory] [--data=FOLDER]

Quantization beside TensorFlow's converter, ai-edge-quantizer, ONNX Runtime and tfmot; writes
benchmarks/results/quantization_*.json. Without --part all are run, which takes hours: `qat` trains ResNet-8 nine times.

    ptq     accuracy, bytes, time and parity after calibration: ResNet-8 on CIFAR-10, a small network on MNIST
    qat     accuracy of the int8 files after training with quantization, beside tfmot's
    speed   MobileNetV2, ResNet50 and ResNet-8 on one thread
    step    time of a training step, beside the plain one, and tfmot's beside tf_keras' plain one
    memory  of calibration of MobileNetV2 at 96 pixels, as the number of batches grows
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import gc
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import peers
from benchmarks.files import File, Folder, runner, static_peers
from benchmarks.harness import (
    Setting,
    compared,
    each_step,
    in_a_process,
    milliseconds,
    peak_mb,
    per_round,
    run_parts,
    save,
    show,
    stepper,
)
from benchmarks.networks import large, resnet8, small, trained_resnet8
from benchmarks.quantization_accuracy import ptq, qat

NETWORKS = ("MobileNetV2", "ResNet50", "ResNet-8")
IMAGES = 16
"""Calibration images: the ranges of these networks matter little for time."""
PEERS = {"TensorFlow int8": ".tflite", "ai-edge-quantizer int8": ".tflite", "ONNX Runtime int8": ".onnx"}

STEPS = {"small": 20, "ResNet-8": 4}
BATCH_SIZE = {"small": 128, "ResNet-8": 64}
SHAPES = {"small": (28, 28, 1), "ResNet-8": (32, 32, 3)}

BATCHES = (10, 50, 200)
RANGES = ("minmax", "ema", "percentile", "mse", "entropy")
SIZE = (16, 96, 96, 3)


def speed(setting: Setting) -> None:
    """Measure, print and save."""
    rows = []
    for name in NETWORKS:
        files, x = made(name, setting.data, Folder(setting.cache / f"speed_{name}"))
        rows += timed_files(name, files, x, setting.rounds)
        show(f"One inference, one thread, {name}", rows[-len(files) :])
    save("quantization_speed", rows, setting.command)


def made(name: str, folder: pathlib.Path, target: Folder) -> tuple[list[File], np.ndarray]:
    """Return all files of a network and an image; files that the cache has are not made again, but for our own."""
    pixels = np.random.default_rng(0).uniform(0, 255 if name == "ResNet-8" else 1, (IMAGES, 32, 32, 3))
    if name != "ResNet-8":
        pixels = np.random.default_rng(0).uniform(-1, 1, (IMAGES, 224, 224, 3))
    x = pixels.astype(np.float32)
    model = trained_resnet8(folder) if name == "ResNet-8" else large(name)
    quantized = tfc.quantize(model, "int8", x, batch_size=4)
    ours = target.ours("int8", quantized) + target.integer_io("int8", quantized)
    floats = target.ours("float32", model)
    known = [(way, target.name(way, suffix)) for way, suffix in PEERS.items()]
    if all(path.exists() for _, path in known):
        theirs = [File(way, path) for way, path in known]
    else:
        theirs = static_peers(target, model, floats[1].path, x)
    gc.collect()
    return floats + ours + theirs, x


def timed_files(name: str, files: list[File], x: np.ndarray, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each file; ratios are taken round by round."""
    files = sorted(files, key=lambda file: file.format)
    times = per_round(each_step({file: runner(file.path, x) for file in files}, rounds, milliseconds=100))
    rows = []
    for file, taken in times.items():
        alike = [(other, t) for other, t in times.items() if other.format == file.format]
        (floating,) = (t for other, t in alike if other.way.endswith("float32"))
        # A file that takes integers has less to do.
        same = [(other, t) for other, t in alike if other.takes_integers == file.takes_integers]
        theirs = [t for other, t in same if not other.way.startswith("tfcompress")]
        best = min(theirs, key=lambda t: float(np.median(t)))
        rows.append(
            {
                "network": name,
                "format": file.format,
                "inputs": "int8" if file.takes_integers else "float32",
                "file": file.way,
                "bytes": file.path.stat().st_size,
                **milliseconds(taken),
                "faster than float32": f"{np.median(floating / taken):.2f}x",
                "time of the best peer's": f"{np.median(taken / best):.3f}",
            }
        )
    return rows


def step(setting: Setting) -> None:
    """Measure, print and save."""
    rows = [row for name in STEPS for jit in (False, True) for row in steps(name, jit, setting.rounds)]
    show("A training step", rows)
    save("quantization_step", rows, setting.command)


def variants(name: str, jit: bool) -> dict[str, Callable[[], None]]:
    """Return one step function for each model; what can't be compiled is left out, with a message."""
    tfmot = peers.tfmot()
    import tf_keras

    def network(module: Any) -> Any:
        return small(module) if name == "small" else resnet8(module, rescaling=False)

    models: dict[str, tuple[Any, Callable[[], Any]]] = {
        "plain": (keras, lambda: network(keras)),
        "tfcompress int8": (keras, lambda: tfc.quantize(network(keras), "int8")),
        "tf_keras plain": (tf_keras, lambda: network(tf_keras)),
        "tfmot int8": (tf_keras, lambda: tfmot.quantization.keras.quantize_model(network(tf_keras))),
    }
    built = {}
    for way, (module, make) in models.items():
        step = stepper(module, make(), jit, SHAPES[name], BATCH_SIZE[name])
        try:
            for _ in range(3):
                step()
        except Exception as error:  # tfmot's gradients have no XLA kernels
            print(f"{name}, {way}, XLA {jit}: {type(error).__name__}: {str(error)[:300]}", file=sys.stderr)
            continue
        built[way] = step
    return built


def steps(name: str, jit: bool, rounds: int) -> list[dict[str, Any]]:
    """Return a row per model."""

    def base(way: str) -> str:
        return "tf_keras plain" if way in ("tf_keras plain", "tfmot int8") else "plain"

    rows = compared(each_step(variants(name, jit), rounds, STEPS[name]), base)
    return [{"network": name, "XLA": "on" if jit else "off", **row} for row in rows]


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
        {"ptq": ptq, "speed": speed, "step": step, "memory": memory, "qat": qat},
        rounds=31,
        needed=dict.fromkeys(("ptq", "speed", "qat"), ("cifar10_jpeg.npz", "mnist.npz", "resnet8_cifar10_jpeg.keras")),
        apart={"calibrated": calibrated},
    )
