"""Writing files, our own and the peers', and measuring them: accuracy, bytes, time, likeness to the Keras model."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import tfcompress as tfc
from benchmarks import peers
from tfcompress.evaluation.open_predictor import open_predictor
from tfcompress.evaluation.predictor import predict

NOTHING = "-"


@dataclasses.dataclass(frozen=True)
class File:
    """A file to measure.

    Attributes:
        way: Who made it and how.
        path: Where it is.
        simulation: The Keras model that it must agree with; `None` for peers.
    """

    way: str
    path: pathlib.Path
    simulation: keras.Model | None = None

    @property
    def format(self) -> str:
        """TFLite or ONNX."""
        return {".tflite": "TFLite", ".onnx": "ONNX"}[self.path.suffix]

    @functools.cached_property
    def takes_integers(self) -> bool:
        """Whether its inputs are 8-bit integers."""
        specs = open_predictor(self.path).input_specs or {}
        return all(np.dtype(spec.dtype).itemsize == 1 for spec in specs.values())


class Folder:
    """Where files are written."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def ours(self, way: str, model: keras.Model, simulated: bool = True, verify: bool = True) -> list[File]:
        """Export a model to both formats."""
        files = []
        for suffix in (".tflite", ".onnx"):
            path = self.name(f"ours {way}", suffix)
            try:
                tfc.export(model, path, overwrite=True, verify=verify)
            except ValueError as error:  # the other rows are worth having
                print(f"FAILED: {way} to {suffix}: {error}", file=sys.stderr)
                continue
            files.append(File(f"tfcompress {way}", path, model if simulated else None))
        return files

    def integer_io(self, way: str, model: keras.Model) -> list[File]:
        """Export a model to TFLite with int8 inputs and outputs, as ai-edge-quantizer's files have them."""
        path = self.name(f"ours {way} io", ".tflite")
        tfc.export(model, path, overwrite=True, inference_io="int8")
        return [File(f"tfcompress {way}, int8 in and out", path, model)]

    def peer(self, way: str, suffix: str, content: bytes) -> File:
        """Write a file that a peer made."""
        path = self.name(way, suffix)
        path.write_bytes(content)
        return File(way, path)

    @staticmethod
    def usable(files: list[File]) -> list[File]:
        """Leave out, with a message, what its runtime refuses: peers don't try their files."""
        kept = []
        for file in files:
            try:
                open_predictor(file.path)
            except ValueError as error:
                print(f"FAILED: {file.way}: {error}", file=sys.stderr)
                continue
            kept.append(file)
        return kept

    def name(self, way: str, suffix: str) -> pathlib.Path:
        """Return the path for a file."""
        return self.path / ("".join(c if c.isalnum() else "_" for c in way) + suffix)


def static_peers(folder: Folder, model: keras.Model, float_onnx: pathlib.Path, calibration: np.ndarray) -> list[File]:
    """Make the peers' int8 files of one float model and one set of calibration images."""
    float_file = peers.tensorflow_float(model)
    return [
        folder.peer("TensorFlow int8", ".tflite", peers.tensorflow(model, calibration)),
        folder.peer("ai-edge-quantizer int8", ".tflite", peers.ai_edge(float_file, "static_wi8_ai8", calibration)),
        folder.peer("ONNX Runtime int8", ".onnx", peers.onnx_runtime(float_onnx, calibration)),
    ]


def outputs(source: Any, x: np.ndarray, runtime: str | None = None) -> np.ndarray:
    """Return what a model or a file, with one input and one output, makes of images."""
    predictor = open_predictor(source, runtime=runtime)
    (value,) = predict(predictor, predictor.check(x), batch_size=256).values()
    return value


def accuracy(scores: np.ndarray, y: np.ndarray) -> float:
    """Return the share of right answers, in per cent."""
    return float(100 * (scores.argmax(axis=-1) == y).mean())


def likeness(file: File, scores: np.ndarray, simulated: np.ndarray) -> dict[str, Any]:
    """Return how a file differs from its Keras model: in steps of the output, or in per cent of its largest value."""
    from tfcompress.export.plan.deployment import deploy

    difference = np.abs(scores.astype(np.float64) - simulated)
    step = next(iter(deploy(file.simulation, file.path.suffix[1:]).scales.values()), None)
    largest = difference.max()
    return {
        "largest difference": f"{round(largest / step)} steps" if step else f"{largest / np.abs(simulated).max():.1e}",
        "equal %": round(float(100 * (difference < step / 2).mean()), 2) if step else NOTHING,
        "argmax equal %": round(accuracy(scores, simulated.argmax(axis=-1)), 2),
        "Keras accuracy %": None,
    }


def runner(path: pathlib.Path, x: np.ndarray) -> Callable[[], object]:
    """Return a function that runs a file once on one image and one thread."""
    predictor = open_predictor(path, threads=1)
    return predictor.step(predictor.check(x[:1]))
