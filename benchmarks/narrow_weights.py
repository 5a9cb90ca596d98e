"""TFLite files whose weights have fewer than 8 bits: bytes and time; and what of a file is neither weight nor bias."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import peers
from benchmarks.data import Arrays, flat, mnist
from benchmarks.files import NOTHING, Folder, accuracy, outputs, static_peers
from benchmarks.harness import Setting, each_step, milliseconds, per_round, save, show
from benchmarks.inference import invocation
from benchmarks.networks import large, trained_perceptron, trained_resnet8
from tfcompress.evaluation.file_constants import bytes_by_dtype

NamedFile = tuple[str, pathlib.Path]

TURN = 20
"""Milliseconds of a turn of one file."""


def tflite(setting: Setting) -> None:
    """Measure, print and save."""
    folder = Folder(setting.cache / "compression_tflite")
    test = mnist(setting.data)[1]
    rows = compared("784-1024-1024-10", list(perceptrons(folder, setting.data)), setting.rounds, test)
    rows += compared("MobileNetV2", list(mobilenets(folder)), setting.rounds)
    save("compression_tflite", rows, f"{setting.command} --rounds={setting.rounds}")
    containers = list(of_resnet8(folder, setting))
    show("What of a file of ResNet-8 is neither weight nor bias", containers)
    save("container_tflite", containers, setting.command)


def kernels(setting: Setting) -> None:
    """Measure, print and save: what `tfcompress.export.tflite.weights.storage.KERNELS` has."""
    folder, rows = Folder(setting.cache / "narrow_kernels"), []
    for layer, (shape, build) in LAYERS.items():
        for activations in ("static", "dynamic", "weights alone", "static, 16 bits"):
            made = {bits: alone(folder, build(), shape, bits, activations) for bits in (8, 4, 2)}
            files = [(f"{bits} bits", path) for bits, (path, _) in made.items()]
            times = per_round(each_step({way: invocation(path) for way, path in files}, setting.rounds))
            for bits, (path, weight) in made.items():
                taken = times[f"{bits} bits"]
                row = {"layer": layer, "activations": activations, "bits": bits, "stored in": weight or "int8"}
                row |= {"bytes": path.stat().st_size, **milliseconds(taken)}
                rows.append({**row, "time": f"{np.median(taken / times['8 bits']):.2f}"})
        show(f"Three layers one after another, {layer}", [row for row in rows if row["layer"] == layer])
    save("narrow_kernels", rows, f"{setting.command} --rounds={setting.rounds}")


LAYERS: dict[str, tuple[tuple[int, ...], Callable[[], keras.layers.Layer]]] = {
    "Dense": ((512,), lambda: keras.layers.Dense(512)),
    "Dense on 49 vectors": ((49, 512), lambda: keras.layers.Dense(512)),
    "Conv2D 1x1": ((14, 14, 64), lambda: keras.layers.Conv2D(64, 1)),
    "Conv2D 3x3": ((14, 14, 64), lambda: keras.layers.Conv2D(64, 3, padding="same")),
    "DepthwiseConv2D 3x3": ((14, 14, 64), lambda: keras.layers.DepthwiseConv2D(3, padding="same")),
}


def alone(
    folder: Folder, layer: keras.layers.Layer, shape: tuple[int, ...], bits: int, activations: str
) -> tuple[pathlib.Path, str]:
    """Return a file of three such layers, of the fewest bytes, and in what it stores their weights."""
    keras.utils.set_random_seed(0)
    stack = [layer, *(type(layer).from_config({**layer.get_config(), "name": name}) for name in ("second", "third"))]
    model = keras.Sequential([keras.Input(shape), *stack])
    x = np.random.default_rng(0).normal(size=(16, *shape)).astype(np.float32)
    config = weights(bits, activations.split(",", maxsplit=1)[0])
    if activations.endswith("16 bits"):
        config = dataclasses.replace(config, activations=tfc.ActivationSpec(bits=16, symmetric=True))
    quantized = tfc.quantize(model, config, x if activations.startswith("static") else None)
    path = folder.name(f"{type(layer).__name__} {len(shape)} {activations} {bits}", ".tflite")
    artifact = tfc.export(quantized, path, overwrite=True, prefer="size")
    forms = {one.type for one in artifact.operators.narrow} if artifact.operators else set()
    return path, ", ".join(sorted(forms))


def compared(network: str, files: list[NamedFile], rounds: int, test: Arrays | None = None) -> list[dict[str, Any]]:
    """Return a row for each file: beside the first that is named alike before the comma, which has 8 bits."""
    times = per_round(each_step({way: invocation(path) for way, path in files}, rounds, milliseconds=TURN))
    paths, rows = dict(files), []
    for way, taken in times.items():
        base = next(other for other in times if other.split(",")[0] == way.split(",")[0])
        size, of_base = (paths[one].stat().st_size for one in (way, base))
        row = {"network": network, "file": way, "bytes": size, "smaller": f"{of_base / size:.2f}x"}
        row |= {**milliseconds(taken), "time": f"{np.median(taken / times[base]):.2f}"}
        scores = outputs(paths[way], flat(test[0])) if test else None
        row["accuracy %"] = NOTHING if scores is None or test is None else f"{accuracy(scores, test[1]):.2f}"
        rows.append(row)
    show(f"One inference, one thread, {network}", rows)
    return rows


def weights(bits: int, activations: str) -> tfc.QuantizeConfig:
    """Return a config."""
    spec = None if activations == "weights alone" else tfc.ActivationSpec(dynamic=activations == "dynamic")
    return tfc.QuantizeConfig(tfc.WeightSpec(bits=bits), spec)


def written(folder: Folder, way: str, model: keras.Model, **how: Any) -> NamedFile:
    """Return the name and the path of a file, proven."""
    return way, tfc.export(model, folder.name(way, ".tflite"), overwrite=True, **how).path


def perceptrons(folder: Folder, data: pathlib.Path) -> Iterator[NamedFile]:
    """Yield the files of a perceptron for MNIST, whose weights are rounded and not trained any more."""
    train, _ = mnist(data)
    model, x = (
        trained_perceptron((flat(train[0]), train[1]), folder.path / "perceptron_mnist.keras"),
        flat(train[0][:512]),
    )
    yield written(folder, "float32", model)
    for activations in ("static", "dynamic", "weights alone"):
        for bits in (8, 4, 2):
            quantized = tfc.quantize(model, weights(bits, activations), x if activations == "static" else None)
            yield written(folder, f"{activations}, {bits} bits", quantized)
    floats = peers.tensorflow_float(model)
    for bits in (8, 4):
        way = f"ai-edge-quantizer dynamic, {bits} bits"
        yield way, folder.peer(way, ".tflite", peers.ai_edge(floats, f"dynamic_wi{bits}_afp32")).path


def mobilenets(folder: Folder) -> Iterator[NamedFile]:
    """Yield the files of MobileNetV2 at 224."""
    model = large("MobileNetV2")
    x = np.random.default_rng(0).uniform(-1, 1, (8, 224, 224, 3)).astype(np.float32)
    for bits in (8, 4):
        quantized = tfc.quantize(model, weights(bits, "static"), x, batch_size=4)
        yield written(folder, f"static, {bits} bits", quantized)
    yield written(folder, "static, 4 bits, prefer='size'", quantized, prefer="size")


def of_resnet8(folder: Folder, setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield a row for each file of the trained ResNet-8."""
    model = trained_resnet8(setting.data)
    x = np.random.default_rng(0).uniform(0, 255, (16, 32, 32, 3)).astype(np.float32)
    quantized = tfc.quantize(model, "int8", x)
    ours = [written(folder, "tfcompress", quantized), written(folder, "tfcompress, names=True", quantized, names=True)]
    floats = tfc.export(model, folder.name("float", ".onnx"), overwrite=True).path
    theirs = [(file.way, file.path) for file in static_peers(folder, model, floats, x) if file.format == "TFLite"]
    for way, path in (*ours, *theirs):
        payload = sum(size for dtype, size in bytes_by_dtype(path).items() if dtype in ("int8", "int32"))
        yield {"file": way, "bytes": path.stat().st_size, "container": path.stat().st_size - payload}
