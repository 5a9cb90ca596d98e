"""Small machines: which numbers a file gives in a runtime, beside its simulation in Keras; what differs among them."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import data
from benchmarks.harness import Setting, run_parts, save, show
from benchmarks.microcontroller import microcontroller
from benchmarks.networks import trained_resnet8
from benchmarks.npu import npu
from benchmarks.recurrent import recurrent, recurrent_time

IMAGES = 512
"""To calibrate with."""


@dataclasses.dataclass(frozen=True)
class Simulated:
    """A runtime.

    Attributes:
        arithmetic: That Keras simulates.
        suffix: Of the file.
        runtime: That runs it.
    """

    arithmetic: str
    suffix: str
    runtime: str


RUNTIMES = {
    "LiteRT, XNNPACK": Simulated("xnnpack", ".tflite", "litert"),
    "TFLite Micro": Simulated("reference", ".tflite", "tflm"),
    "ONNX Runtime": Simulated("onnxruntime", ".onnx", "onnxruntime"),
}


def exactness(setting: Setting) -> None:
    """Compare the outputs of a trained ResNet-8 on all test images, for each runtime and its simulation."""
    from tfcompress.runtime.opening import open_runner

    train, (images, labels) = data.cifar10(setting.data)
    calibration, x = (part.astype(np.float32) for part in (train[0][:IMAGES], images))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        outputs = {}
        for name, one in RUNTIMES.items():
            model = tfc.quantize(trained_resnet8(setting.data), "int8", calibration, arithmetic=one.arithmetic)
            path = tfc.export(model, pathlib.Path(folder) / f"model{one.suffix}", overwrite=True, verify=False).path
            given = open_runner(path, runtime=one.runtime).predict(x)
            outputs[one.arithmetic] = model.predict(x, batch_size=256, verbose=0)
            rows.append({"runtime": name, **_row(one, given, outputs, labels, _step(model))})
    show("ResNet-8, 10,000 test images of CIFAR-10", rows)
    save("small_exactness", rows, setting.command)


def _step(model: keras.Model) -> float:
    from tfcompress.quantization.graph.activation_quantizer import activation_quantizers

    return activation_quantizers(model)[-1].grid.scale


def _row(one: Simulated, given: np.ndarray, outputs: dict[str, np.ndarray], labels: np.ndarray, step: float) -> Any:
    steps = np.rint(np.abs(outputs[one.arithmetic] - given) / step)
    of_xnnpack = np.rint(np.abs(outputs["xnnpack"] - given) / step)
    return {
        "simulation": one.arithmetic,
        "images": len(given),
        "images with equal outputs": int((steps == 0).all(axis=1).sum()),
        "equal outputs, %": round(float((steps == 0).mean()) * 100, 4),
        "largest difference, steps": int(steps.max()),
        "equal to XNNPACK's simulation, %": round(float((of_xnnpack == 0).mean()) * 100, 4),
        "accuracy, %": round(float((given.argmax(-1) == labels).mean()) * 100, 2),
    }


INTEGERS = 1 << 20
"""Random ones, on which roundings are compared."""

WORDS = {
    "convolution, depthwise, dense": (
        "float32 factor, halves to even",
        "31-bit factor, rounded up, then away from zero",
        "float32 factor, halves to even",
    ),
    "add": (
        "20-bit factors, halves up",
        "31-bit factors, both inputs shifted by 20",
        "float32 factors, halves to even",
    ),
    "multiply": ("as convolution", "as convolution", "as convolution"),
    "mean": (
        "float32 factor, halves to even",
        "the factor's integer divided by the count",
        "float32 factor, halves to even",
    ),
    "leaky ReLU": ("factors of 256ths, halves up", "31-bit factors", "float32, halves to even"),
    "another grid, as for a concatenation": (
        "a factor of 256ths, halves up",
        "31-bit factor",
        "float32, halves to even",
    ),
    "sigmoid, tanh, ELU, GELU": (
        "a table, halves to even",
        "a table, halves away from zero",
        "float32, halves to even",
    ),
}
"""How each runtime rounds an operator."""


def rounding(setting: Setting) -> None:
    """Compare what the runtimes make of the same random integers, operator by operator."""
    from tfcompress.quantization.arithmetic.choice import ARITHMETICS

    random = np.random.default_rng(0)
    x, y = (random.integers(-128, 128, INTEGERS).astype(np.float32) for _ in range(2))
    sums = random.normal(0, 4000, INTEGERS).round().astype(np.float32)
    one, other, output = np.float32(0.0137), np.float32(0.0311), np.float32(0.0493)
    computed = {
        "convolution, depthwise, dense": lambda a: a.requantized(sums, one, other, output),
        "add": lambda a: a.added(x, y, (one, other), output),
        "multiply": lambda a: a.multiplied(x, y, (one, other), output),
        "mean": lambda a: a.averaged(sums, 49, one, output),
        "leaky ReLU": lambda a: a.sloped(x, np.float32(0.2), one, output),
        "another grid, as for a concatenation": lambda a: a.regridded(x, one, output),
    }
    rows = []
    for name, words in WORDS.items():
        if name in computed:
            made = {key: np.asarray(computed[name](a)) for key, a in ARITHMETICS.items()}
        else:
            real = np.tanh(x * one) * 128
            away = np.sign(real) * np.floor(np.abs(real) + 0.5)
            made = {"xnnpack": np.rint(real), "reference": away, "onnxruntime": np.rint(real)}
        row = dict(zip(RUNTIMES, words, strict=True))
        for label, key in (("TFLite Micro", "reference"), ("ONNX Runtime", "onnxruntime")):
            share = float((made["xnnpack"] != made[key]).mean())
            row[f"{label} unlike XNNPACK, %"] = f"{100 * share:.2g}"
        rows.append({"operator": name, **row})
    show("How integers are rounded, and how many of a million differ by a step", rows)
    save("small_rounding", rows, setting.command)


if __name__ == "__main__":
    cifar10 = ("cifar10_jpeg.npz", "resnet8_cifar10_jpeg.keras")
    parts = {
        "exactness": exactness,
        "microcontroller": microcontroller,
        "npu": npu,
        "recurrent": recurrent,
        "recurrent_time": recurrent_time,
        "rounding": rounding,
    }
    needed = {**dict.fromkeys(("exactness", "microcontroller", "npu"), cifar10), "recurrent": ("mnist.npz",)}
    run_parts("small", __doc__, parts, rounds=21, needed=needed)
