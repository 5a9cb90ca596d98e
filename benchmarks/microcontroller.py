"""What files take of a microcontroller's flash and RAM, beside what TensorFlow's converter makes of the same model."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data, peers
from benchmarks.files import accuracy, outputs
from benchmarks.harness import Setting, save, show
from benchmarks.networks import trained_resnet8
from benchmarks.npu import IMAGES, normalized_sounds, trained_autoencoder

VALUES = 16
"""Of each kernel: places of 4 bits."""

TESTED = 2_000
"""Samples that files are run on."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
        name: of the network.
        model: itself.
        calibration: samples.
        x: samples that files are run on.
        quality: says what outputs are worth.
    """

    name: str
    model: keras.Model
    calibration: np.ndarray
    x: np.ndarray
    quality: Callable[[np.ndarray], str]


def _rows(network: Network, folder: pathlib.Path) -> list[dict[str, Any]]:
    """Return a row for each file of a network."""
    rows: list[dict[str, Any]] = []
    made: dict[str, np.ndarray] = {}

    def add(way: str, path: pathlib.Path, twin: str | None = None) -> None:
        found = tfc.footprint(path)
        made[way] = outputs(path, network.x, runtime="tflm")
        row = {"network": network.name, "file": way, "bytes": found.flash, "arena bytes": found.arena.total}
        row["of int8's bytes"] = f"{found.flash / rows[0]['bytes']:.3f}" if rows else "1.000"
        row["quality"] = network.quality(made[way])
        equal = (made[way] == made[twin]) if twin else None
        row["outputs equal to its twin's"] = "-" if equal is None else f"{int(equal.sum()):,} of {equal.size:,}"
        rows.append(row)

    def export(name: str, quantized: keras.Model, **how: Any) -> pathlib.Path:
        options: dict[str, Any] = {"target": "microcontroller", "overwrite": True, **how}
        return tfc.export(quantized, folder / f"{name}.tflite", **options).path

    def quantized(of: keras.Model, config: str) -> keras.Model:
        return tfc.quantize(of, config, network.calibration, target="microcontroller")

    add("int8", export("int8", quantized(network.model, "int8")))
    theirs = folder / "tensorflow.tflite"
    theirs.write_bytes(peers.tensorflow(network.model, network.calibration, integer_io=True))
    add("int8 by TensorFlow's converter", theirs)
    values = tfc.cluster(tfc.fold_batch_norms(network.model), tfc.ClusterConfig(VALUES, "kmeans"))
    few = quantized(values, "int8_per_tensor")
    add("int8, one scale, 16 values", export("few", few))
    add("int8, one scale, 16 values, as tables", export("coded", few, weights="coded"), "int8, one scale, 16 values")
    return rows


def of_resnet8(setting: Setting) -> Network:
    """Return ResNet-8 and images of CIFAR-10."""
    train, (images, labels) = data.cifar10(setting.data)
    calibration, x = (part.astype(np.float32) for part in (train[0][:IMAGES], images[:TESTED]))

    def quality(y: np.ndarray) -> str:
        return f"accuracy {accuracy(y, labels[:TESTED]):.2f} %"

    return Network("ResNet-8", trained_resnet8(setting.data), calibration, x, quality)


def of_autoencoder(setting: Setting) -> Network:
    """Return the autoencoder and sounds."""
    train, tested = normalized_sounds()
    tested = tested[:TESTED]

    def quality(y: np.ndarray) -> str:
        return f"error {float(np.mean((y - tested) ** 2)):.4f}"

    return Network("autoencoder", trained_autoencoder(train, setting.cache), train[:IMAGES], tested, quality)


def microcontroller(setting: Setting) -> None:
    """Measure, print and save."""
    setting.cache.mkdir(parents=True, exist_ok=True)
    rows = [row for network in (of_autoencoder, of_resnet8) for row in _rows(network(setting), setting.cache)]
    show("In TFLite Micro", rows)
    save("small_microcontroller", rows, setting.command)
