"""ResNet-8 on CIFAR-10 with weights of few bits: rounded after calibration in three ways, and trained in two."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data
from benchmarks.files import accuracy, outputs
from benchmarks.harness import Setting, clocks, collected, mean_and_each, rows_of, show
from benchmarks.networks import Fit, fit, trained_resnet8

IMAGES = 512
"""To calibrate with, and to round by."""

ROUNDINGS = ("nearest", "adaround", "gptq")
WIDTHS = {"4 bits": {}, "4 bits, mse": {"range": "mse"}, "3 bits, mse": {"bits": 3, "range": "mse"}}
"""Of all weights, with activations of 8 bits: what a `WeightSpec` of 4 bits is told besides."""

SEEDS = (0, 1, 2)

STATISTICS = 4096
"""Images, as they are, for the statistics of batch normalization after training."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """Weights of few bits that are trained.

    Attributes:
        weights: {regular expression for names of layers: of their weights}; all others have 8 bits.
        epochs: Of the training, after AdaRound.
        rate: Of the training.
    """

    weights: dict[str, tfc.WeightSpec]
    epochs: int
    rate: float

    def model(self, start: keras.Model, calibration: np.ndarray, folder: pathlib.Path) -> keras.Model:
        """Return the quantized model, rounded but not trained."""
        config = {layers: tfc.QuantizeConfig(spec) for layers, spec in {**self.weights, ".*": few(8)}.items()}
        return tfc.quantize(start, config, calibration, rounding=tfc.AdaRound(folder=folder))


def few(bits: int) -> tfc.WeightSpec:
    """Return weights of so many bits whose scale is trained."""
    return tfc.WeightSpec(bits=bits, range="learned")


LEARNED = "compression_learned"
TRAINED = {
    "4 bits": Trained({"conv2d_.*": few(4)}, epochs=1, rate=5e-4),
    "3 bits, in the largest kernel three values": Trained(
        {"conv2d_7": tfc.WeightSpec(range="ternary"), "conv2d_.*": few(3)}, epochs=2, rate=1e-3
    ),
    "2 bits": Trained({"conv2d_.*": few(2)}, epochs=3, rate=1e-3),
}
"""The first convolution and the dense layer have 8 bits."""


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
    """Train with weights of few bits; print and save. Each run is kept as soon as it is done."""
    train, test = data.cifar10(setting.data)
    start = trained_resnet8(setting.data)
    x, y = test[0].astype(np.float32), test[1]

    def run(weights: str, seed: int) -> dict[str, Any]:
        keras.utils.set_random_seed(seed)
        how = TRAINED[weights]
        known = setting.cache / f"learned_{list(TRAINED).index(weights)}"
        model = how.model(start, train[0][:IMAGES].astype(np.float32), known)
        before = percent(model, x, y)
        taught = tfc.distill(model, start, temperature=4.0, alpha=0.7)
        seconds = fit(Fit(how.epochs, how.rate, seed, augment=True), keras, taught, train)
        trained = percent(model, x, y)
        tfc.reestimate_batch_norm(model, train[0][:STATISTICS].astype(np.float32), batch_size=256)
        path = setting.cache / f"{known.name}_{seed}.keras"
        tfc.save(model, path, overwrite=True)
        wide = tfc.export(model, path.with_suffix(".tflite"), overwrite=True)
        small = tfc.export(model, path.with_suffix(".onnx"), weights="coded", overwrite=True)
        return {
            "rounded %": before,
            "trained %": trained,
            "Keras %": percent(model, x, y),
            "TFLite %": percent(wide.path, x, y),
            "ONNX %": percent(small.path, x, y),
            "coded .onnx bytes": small.nbytes,
            "processor s per epoch": round(seconds, 1),
        }

    for weights in TRAINED:
        for seed in SEEDS:
            key = {"weights": weights, "seed": seed}
            collected(LEARNED, setting.command, key, lambda weights=weights, seed=seed: run(weights, seed))
    show("Training with few bits, ResNet-8 on CIFAR-10", learned_summary(rows_of(LEARNED)))


def learned_summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each choice of bits: the mean accuracies of its seeds, and each, and the largest file."""
    made = []
    for weights, how in TRAINED.items():
        own = [row for row in rows if row["weights"] == weights]
        if not own:
            continue
        columns = ("trained %", "Keras %", "TFLite %", "ONNX %")
        trained = {column: mean_and_each([row[column] for row in own]) for column in columns}
        made.append(
            {
                "weights": weights,
                "rounded %": f"{own[0]['rounded %']:.2f}",
                "epochs": how.epochs,
                **trained,
                "bytes": f"{max(row['coded .onnx bytes'] for row in own):,}",
            }
        )
    return made


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
