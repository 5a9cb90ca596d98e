"""ONNX files that unpack themselves beside the same files with plain int8 weights: bytes, time, loading, exporting."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import web
from benchmarks.files import Folder, runner
from benchmarks.harness import Setting, clocks, each_step, per_round, save, show
from benchmarks.networks import PIXEL, large, lenet, resnet8
from tfcompress.evaluation.open_predictor import open_predictor

SHARES = (0.8, 0.9, 0.95)
"""Of the weights that are zero."""
BITS = (8, 4)
IMAGES, LARGE_IMAGES = 64, 8
"""To calibrate with and to compare, of small and of large networks."""
EXPORTS = 5
"""Times that each file is exported."""
WAYS = ("plain", "coded")
LARGE = (("MobileNetV2", 0.0), ("ResNet50", 0.0), ("ResNet50", 0.8))
"""Networks at 224 pixels and their share of zeros."""
TURN = 20.0
"""Milliseconds of a turn of one file."""

NETWORKS: dict[str, Callable[[], keras.Model]] = {
    "LeNet-300-100": lambda: lenet("LeNet-300-100"),
    "ResNet-8": lambda: resnet8(keras),
}


def coded(setting: Setting) -> None:
    """Measure, print and save."""
    rows = []
    for name, made in NETWORKS.items():
        for share in SHARES:
            for bits in BITS:
                keras.utils.set_random_seed(0)
                rows.append(beside_plain(name, made(), share, bits, setting))
        show(f"Weights that unpack themselves, {name}", [row for row in rows if row["network"] == name])
    save("compression_coded", rows, f"{setting.command} --rounds={setting.rounds}")


def coded_large(setting: Setting) -> None:
    """Measure, print and save."""
    rows = []
    for name, share in LARGE:
        rows.append(beside_plain(name, large(name), share, 4, setting, exports=3, browser=False))
    show("Weights that unpack themselves, large networks", rows)
    save("compression_coded_large", rows, f"{setting.command} --rounds={setting.rounds}")


def with_zeros(model: keras.Model, share: float) -> keras.Model:
    """Set a share of each kernel to zero, at random."""
    random = np.random.default_rng(0)
    for weight in model.trainable_variables:
        if "kernel" in weight.name:
            weight.assign(weight * (random.random(weight.shape) >= share))
    return model


def beside_plain(
    name: str,
    model: keras.Model,
    share: float,
    bits: int,
    setting: Setting,
    *,
    exports: int = EXPORTS,
    browser: bool = True,
) -> dict[str, Any]:
    """Return the row of a network with some zeros and bits."""
    folder = Folder(setting.cache / "coded")
    count = IMAGES if browser else LARGE_IMAGES
    x = np.random.default_rng(0).uniform(0, 1 / PIXEL, (count, *model.input_shape[1:])).astype(np.float32)
    config = tfc.QuantizeConfig(weights=tfc.WeightSpec(bits=bits))
    quantized = tfc.quantize(with_zeros(model, share), config, x)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    artifacts = {}
    for turn in range(exports + 1):
        for way in WAYS if turn % 2 == 0 else WAYS[::-1]:
            begun = clocks()[1]
            path = folder.name(f"{name} {share} {bits} {way}", ".onnx")
            artifacts[way] = tfc.export(quantized, path, weights=way, overwrite=True, verify=x[:8])
            seconds[way].append(clocks()[1] - begun)
    paths = {way: artifact.path for way, artifact in artifacts.items()}
    steps = {way: runner(path, x) for way, path in paths.items()}
    times = per_round(each_step(steps, setting.rounds, milliseconds=TURN))
    loads = per_round(each_step({way: loading(path) for way, path in paths.items()}, setting.rounds, period=1))
    equal = np.array_equal(*(artifact.predict(x) for artifact in artifacts.values()))
    plain, small = artifacts["plain"], artifacts["coded"]
    return {
        "network": name,
        "zeros %": round(100 * share),
        "bits": bits,
        "int8 bytes": plain.nbytes,
        "coded bytes": small.nbytes,
        "bits a weight": f"{8 * small.nbytes / sum(one.parameters for one in small.weights):.2f}",
        "smaller": f"{plain.nbytes / small.nbytes:.1f}x",
        "largest weight": form_of_largest(small),
        "outputs": "equal" if equal else "differ",
        "int8 ms": f"{np.median(times['plain']):.4f}",
        "time": f"{np.median(times['coded'] / times['plain']):.2f}",
        "load ms": " and ".join(f"{np.median(loads[way]):.1f}" for way in WAYS),
        "export time": f"{statistics.median(seconds['coded'][1:]) / statistics.median(seconds['plain'][1:]):.2f}",
        **(in_web(paths, x, setting.rounds) if browser else {}),
    }


def form_of_largest(artifact: tfc.Artifact) -> str:
    """Return how the largest weight is stored."""
    return max(artifact.weights, key=lambda one: one.parameters).form


def loading(path: pathlib.Path) -> Callable[[], object]:
    """Return a function that loads a file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return lambda: onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def in_web(paths: dict[str, pathlib.Path], x: np.ndarray, rounds: int) -> dict[str, str]:
    """Return the columns of WebAssembly, where Node is there; with the first file WebAssembly itself is loaded, too."""
    if web.missing() is not None:
        return {}
    given = {way: open_predictor(path).check(x[:1]) for way, path in paths.items()}
    files = [(path, given[way]) for way, path in paths.items()]
    _, plain, small = web.run([files[0], *files], rounds=rounds, turn=TURN, processor=True)
    same = all(np.array_equal(small.outputs[name], value) for name, value in plain.outputs.items())
    return {
        "web outputs": "equal" if same else "differ",
        "web time": f"{np.median(small.times / plain.times):.2f}",
        "web load ms": f"{plain.load:.0f} and {small.load:.0f}",
    }
