"""TFLite files whose weights have fewer than 8 bits: bytes and time; and what of a file is neither weight nor bias."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import peers
from benchmarks.files import Folder, static_peers
from benchmarks.harness import Setting, each_step, milliseconds, per_round, save, show
from benchmarks.inference import invocation
from benchmarks.networks import large, trained_resnet8
from tfcompress.evaluation.file_constants import bytes_by_dtype

TURN = 20
"""Milliseconds of a turn of one file."""


def tflite(setting: Setting) -> None:
    """Measure, print and save."""
    folder = Folder(setting.cache / "compression_tflite")
    rows = []
    for network, files in (("784-1024-1024-10", perceptrons(folder)), ("MobileNetV2", mobilenets(folder))):
        made = list(files)
        times = per_round(each_step({way: invocation(path) for way, path in made}, setting.rounds, milliseconds=TURN))
        paths = dict(made)
        for way, taken in times.items():
            base = next(other for other in times if other.split(",")[0] == way.split(",")[0])  # 8 bits, alike otherwise
            size, of_base = (paths[one].stat().st_size for one in (way, base))
            rows.append(
                {
                    "network": network,
                    "file": way,
                    "bytes": size,
                    "smaller than int8": f"{of_base / size:.2f}x",
                    **milliseconds(taken),
                    "time of int8's": f"{np.median(taken / times[base]):.3f}",
                }
            )
        show(f"One inference, one thread, {network}", [row for row in rows if row["network"] == network])
    command = f"{setting.command} --rounds={setting.rounds}"
    save("compression_tflite", rows, command)
    containers = list(of_resnet8(folder, setting))
    show("What of a file of ResNet-8 is neither weight nor bias", containers)
    save("container_tflite", containers, setting.command)


def weights(bits: int, dynamic: bool) -> tfc.QuantizeConfig:
    """Return a config."""
    return tfc.QuantizeConfig(tfc.WeightSpec(bits=bits), tfc.ActivationSpec(dynamic=dynamic))


def written(folder: Folder, way: str, model: keras.Model, **how: Any) -> tuple[str, Any]:
    """Return the name and the path of a file, proven."""
    return way, tfc.export(model, folder.name(way, ".tflite"), overwrite=True, **how).path


def perceptrons(folder: Folder) -> Iterator[tuple[str, Any]]:
    """Yield the files of a perceptron."""
    keras.utils.set_random_seed(0)
    units = [keras.layers.Dense(n, activation=a) for n, a in ((1024, "relu"), (1024, "relu"), (10, None))]
    model = keras.Sequential([keras.Input((784,)), *units])
    x = np.random.default_rng(0).normal(size=(64, 784)).astype(np.float32)
    yield written(folder, "float32", model)
    for dynamic in (False, True):
        kind = "dynamic" if dynamic else "static"
        for bits in (8, 4, 2):
            quantized = tfc.quantize(model, weights(bits, dynamic), None if dynamic else x)
            yield written(folder, f"{kind}, {bits} bits", quantized)
            if bits == 2 and not dynamic:
                yield written(folder, f"{kind}, {bits} bits, size", quantized, prefer="size")
    floats = peers.tensorflow_float(model)
    for bits in (8, 4):
        way = f"ai-edge-quantizer dynamic, {bits} bits"
        yield way, folder.peer(way, ".tflite", peers.ai_edge(floats, f"dynamic_wi{bits}_afp32")).path


def mobilenets(folder: Folder) -> Iterator[tuple[str, Any]]:
    """Yield the files of MobileNetV2 at 224."""
    model = large("MobileNetV2")
    x = np.random.default_rng(0).uniform(-1, 1, (8, 224, 224, 3)).astype(np.float32)
    for bits in (8, 4):
        quantized = tfc.quantize(model, weights(bits, dynamic=False), x, batch_size=4)
        yield written(folder, f"static, {bits} bits of MobileNetV2", quantized)
    yield written(folder, "static, 4 bits of MobileNetV2, size", quantized, prefer="size")


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
