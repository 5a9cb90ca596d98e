"""ONNX files as a server runs them: batches of several sizes, threads, float32, float16 and int8.

A part of `python -m benchmarks.inference`. The clock is what counts here, so nothing else may run on the machine.
"""

from __future__ import annotations

import gc
import pathlib
from typing import Any

import numpy as np

import tfcompress as tfc
from benchmarks.files import Folder
from benchmarks.harness import Setting, save, show
from benchmarks.networks import large
from tfcompress.evaluation.open_predictor import open_predictor
from tfcompress.evaluation.timing import Timing, time_predictors

NETWORKS = ("MobileNetV2", "ResNet50")
NUMBERS = ("float32", "float16", "int8")
BATCHES = (1, 8, 32)
THREADS = (1, 2)
SECONDS = 0.4
"""Of each round, for each file."""


def server(setting: Setting) -> None:
    """Measure, print and save."""
    rows: list[dict[str, Any]] = []
    for name in setting.chosen(NETWORKS):
        files, x = made(name, Folder(setting.cache / f"server_{name}"))
        found = measured(name, files, x, SECONDS * setting.rounds)
        show(f"Batches of {name} in ONNX Runtime", found)
        rows += found
        save("server", rows, setting.command)


def made(name: str, target: Folder) -> tuple[dict[str, pathlib.Path], np.ndarray]:
    """Return the ONNX file of each kind of numbers, which takes any batch, and images."""
    x = np.random.default_rng(0).uniform(-1, 1, (max(BATCHES), 224, 224, 3)).astype(np.float32)
    model = large(name)
    files = {}
    for numbers in NUMBERS:
        path = target.name(numbers, ".onnx")
        exported = tfc.quantize(model, "int8", x[:16], batch_size=4) if numbers == "int8" else model
        precision = "float16" if numbers == "float16" else "float32"
        files[numbers] = tfc.export(exported, path, precision=precision, overwrite=True, verify=False).path
        gc.collect()
    return files, x


def measured(name: str, files: dict[str, pathlib.Path], x: np.ndarray, seconds: float) -> list[dict[str, Any]]:
    """Return a row for each number of threads, batch and file; the files take turns."""
    rows = []
    for threads in THREADS:
        for batch_size in BATCHES:
            predictors = [open_predictor(path, threads) for path in files.values()]
            batches = [predictor.check(x[:batch_size]) for predictor in predictors]
            timings = time_predictors(predictors, batches, runs=None, warmup=3, seconds=seconds)
            base = timings[list(files).index("float32")]
            for numbers, timing in zip(files, timings, strict=True):
                rows.append({"network": name, "threads": threads, "batch": batch_size, "numbers": numbers})
                rows[-1] |= {"bytes": files[numbers].stat().st_size, **columns(timing, base)}
    return rows


def columns(timing: Timing, base: Timing) -> dict[str, str]:
    """Return what a table says of a timing."""
    return {
        "ms": f"{timing.median_ms:.2f}",
        "p95 ms": f"{timing.p95_ms:.2f}",
        "images/s": f"{timing.samples_per_second:.1f}",
        "faster than float32": f"{base.median_ms / timing.median_ms:.2f}x",
    }
