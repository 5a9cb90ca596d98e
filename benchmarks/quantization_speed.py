"""Time of one inference on one thread: the int8 files of three networks, ours and the peers', beside float32."""

from __future__ import annotations

import gc
import pathlib
from typing import Any

import numpy as np

import tfcompress as tfc
from benchmarks.quantization_files import File, Folder, in_turns, milliseconds, runner, static_peers
from benchmarks.quantization_networks import large, trained_resnet8
from benchmarks.results import save, show

NETWORKS = ("MobileNetV2", "ResNet50", "ResNet-8")
IMAGES = 16
"""Calibration images: the ranges of these networks matter little for time."""


def run(folder: pathlib.Path, cache: pathlib.Path, rounds: int, command: str) -> None:
    """Measure, print and save."""
    rows = []
    for name in NETWORKS:
        files, x = made(name, folder, Folder(cache / f"speed_{name}"))
        rows += measure(name, files, x, rounds)
        show(f"One inference, one thread, {name}", rows[-len(files) :])
    save("quantization_speed", rows, command)


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
    del model, quantized
    gc.collect()
    return floats + ours + theirs, x


PEERS = {"TensorFlow int8": ".tflite", "ai-edge-quantizer int8": ".tflite", "ONNX Runtime int8": ".onnx"}


def measure(name: str, files: list[File], x: np.ndarray, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each file; ratios are taken round by round."""
    files = sorted(files, key=lambda file: file.format)
    times = in_turns([runner(file.path, x) for file in files], rounds=rounds, milliseconds=100)
    rows = []
    for file, taken in zip(files, times, strict=True):
        alike = [(other, t) for other, t in zip(files, times, strict=True) if other.format == file.format]
        (floating,) = (t for other, t in alike if other.way.endswith("float32"))
        # A file that takes integers has less to do.
        same = [(other, t) for other, t in alike if other.takes_integers == file.takes_integers]
        peers = [t for other, t in same if not other.way.startswith("tfcompress")]
        best = min(peers, key=lambda t: float(np.median(t)))
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
