"""Post-training quantization: accuracy, bytes, time and parity on CIFAR-10 and MNIST, beside the peers."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data, peers
from benchmarks.quantization_files import (
    NOTHING,
    File,
    Folder,
    accuracy,
    in_turns,
    likeness,
    milliseconds,
    outputs,
    runner,
    static_peers,
)
from benchmarks.quantization_networks import small, trained_resnet8
from benchmarks.results import save, show

IMAGES = 512
RECIPES = ("int8", "int8_per_tensor", "int8_weights", "dynamic_int8", "int16x8", "float16")
DATA_FREE = ("int8_weights", "dynamic_int8", "float16")


def run(folder: pathlib.Path, cache: pathlib.Path, rounds: int, command: str) -> None:
    """Measure, print and save both data sets' tables."""
    for name, title in (("cifar10", "ResNet-8 on CIFAR-10"), ("mnist", "small network on MNIST")):
        train, test = getattr(data, name)(folder)
        model = trained_resnet8(folder) if name == "cifar10" else trained_small(train, cache)
        calibration, x = (images.astype(np.float32) for images in (train[0][:IMAGES], test[0]))
        subject, files = Subject(model, calibration, x, test[1]), Folder(cache / name)
        rows = compare(subject, files, rounds)
        show(f"Post-training quantization, {title}, {len(x):,} test images", rows)
        save(f"quantization_ptq_{name}", rows, command)
        rows = variants(subject, files)
        show(f"Ranges and first aid, {title}", rows)
        save(f"quantization_ranges_{name}", rows, command)


def trained_small(train: data.Arrays, cache: pathlib.Path) -> keras.Model:
    """Return the small network, trained for three epochs on MNIST, once."""
    path = cache / "small_mnist.keras"
    if not path.exists():
        keras.utils.set_random_seed(0)
        model = small(keras, scale=1 / 255)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
        model.fit(train[0].astype(np.float32), train[1], batch_size=128, epochs=3, verbose=2)
        cache.mkdir(parents=True, exist_ok=True)
        tfc.save(model, path, overwrite=True)
    model = keras.models.load_model(path, compile=False)
    assert isinstance(model, keras.Model)
    return model


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
    times = in_turns([runner(file.path, x) for file in files], rounds=rounds)
    scores = accuracy(outputs(model, x), y)
    rows = [{"model": "Keras float32", "format": "Keras", "accuracy %": round(scores, 2), "bytes": NOTHING}]
    rows[0] |= dict.fromkeys(("ms", "middle half", *PARITY), NOTHING)
    simulated: dict[int, np.ndarray] = {}
    for file, taken in zip(files, times, strict=True):
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
        f"range {name}": (tfc.QuantizeConfig(activations=tfc.ActivationSpec(range=name)), {})
        for name in ("minmax", "ema", "percentile", "mse", "entropy")
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
