"""ResNet-8 on CIFAR-10 with weights of few bits: rounded after calibration in three ways, and trained in two."""

from __future__ import annotations

import pathlib
import tempfile
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data
from benchmarks.files import accuracy, outputs
from benchmarks.harness import Setting, clocks, collected, mean_and_each, rows_of, save, show
from benchmarks.networks import Fit, fit, trained_resnet8

IMAGES = 512
"""To calibrate with, and to round by."""

ROUNDINGS = ("nearest", "adaround", "gptq")
WIDTHS = {"4 bits": {}, "4 bits, mse": {"range": "mse"}, "3 bits, mse": {"bits": 3, "range": "mse"}}
"""Of all weights, with activations of 8 bits: what a `WeightSpec` of 4 bits is told besides."""

SEEDS = (0, 1, 2)
TRAINED = {"moving average": ("minmax", "ema"), "learned": ("learned", "learned")}
EPOCHS, RATE = 6, 1e-3


def adaround(setting: Setting) -> None:
    """Measure, print and save; what was measured before is taken from the results."""
    train, test = data.cifar10(setting.data)
    model = trained_resnet8(setting.data)
    x, y = test[0].astype(np.float32), test[1]
    calibration = train[0][:IMAGES].astype(np.float32)

    def figures(rounding: str, how: dict[str, Any]) -> dict[str, Any]:
        config = tfc.QuantizeConfig(tfc.WeightSpec(**{"bits": 4, **how}))
        before = clocks()[1]
        quantized = tfc.quantize(model, config, calibration, rounding=rounding)
        seconds = round(clocks()[1] - before, 1)
        return {"Keras %": percent(quantized, x, y), **in_files(quantized, x, y), "processor s": seconds}

    def floats() -> dict[str, Any]:
        return {"Keras %": percent(model, x, y), "TFLite %": "-", "ONNX %": "-", "processor s": "-"}

    name = "compression_rounding"
    collected(name, setting.command, {"weights": "float32", "rounding": "-"}, floats)
    for weights, how in WIDTHS.items():
        for rounding in ROUNDINGS:
            collected(
                name,
                setting.command,
                {"weights": weights, "rounding": rounding},
                lambda rounding=rounding, how=how: figures(rounding, how),
            )
    show("Rounding of weights, ResNet-8 on CIFAR-10", rows_of(name))


def learned(setting: Setting) -> None:
    """Train with weights of 4 and 2 bits; print and save. Each run is kept as soon as it is done."""
    train, test = data.cifar10(setting.data)
    start = trained_resnet8(setting.data)
    x, y = test[0].astype(np.float32), test[1]

    def run(way: str, bits: int, seed: int) -> dict[str, Any]:
        keras.utils.set_random_seed(seed)
        weights, activations = TRAINED[way]
        config = tfc.QuantizeConfig(
            tfc.WeightSpec(bits=bits, range=weights), tfc.ActivationSpec(range=activations), first_and_last_bits=8
        )
        model = tfc.quantize(start, config, train[0][:IMAGES].astype(np.float32))
        seconds = fit(Fit(EPOCHS, RATE, seed, augment=True), keras, model, train)
        return {"Keras %": percent(model, x, y), **in_files(model, x, y), "processor s per epoch": round(seconds, 1)}

    runs = [
        collected(
            "compression_learned_runs",
            setting.command,
            {"weights": bits, "ranges": way, "seed": seed},
            lambda way=way, bits=bits, seed=seed: run(way, bits, seed),
        )
        for seed in SEEDS
        for bits in (4, 2)
        for way in TRAINED
    ]
    rows = []
    for bits in (4, 2):
        for way in TRAINED:
            own = [one for one in runs if (one["weights"], one["ranges"]) == (bits, way)]
            columns = {key: mean_and_each([one[key] for one in own]) for key in ("Keras %", "TFLite %", "ONNX %")}
            rows.append({"weights": f"{bits} bits, the first and the last 8", "ranges": way, **columns})
    show(f"Training with few bits, ResNet-8 on CIFAR-10, {EPOCHS} epochs", rows)
    save("compression_learned", rows, setting.command)


def percent(model: Any, x: np.ndarray, y: np.ndarray) -> float:
    """Return the accuracy of a model or file."""
    return round(accuracy(outputs(model, x), y), 2)


def in_files(model: keras.Model, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Return the accuracy of both files of a model."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, label in (("tflite", "TFLite %"), ("onnx", "ONNX %")):
            artifact = tfc.export(model, pathlib.Path(folder) / f"model.{kind}")
            found[label] = percent(artifact.path, x, y)
    return found
