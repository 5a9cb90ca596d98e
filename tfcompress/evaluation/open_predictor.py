"""Predictors of Keras models and of files in their runtimes."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import keras
import numpy as np

from tfcompress.core.arguments import check_count, way_out
from tfcompress.core.limits import MOST_THREADS
from tfcompress.core.replicas import predict_on_batch
from tfcompress.evaluation.predictor import Arrays, Predictor
from tfcompress.export.file_for_target import runtime_for
from tfcompress.graph.naming import names_of_outputs
from tfcompress.loading import load
from tfcompress.runtime.integer_io import io_grids, quantize
from tfcompress.runtime.opening import check_runtime, open_runner
from tfcompress.runtime.runner import FORMATS, TensorInfo
from tfcompress.targets import Target
from tfcompress.targets import get as get_target

Source: TypeAlias = "keras.Model | str | os.PathLike[str] | Saved"


class KerasPredictor(Predictor):
    """A Keras model, run by its compiled predict function."""

    format = "keras"
    threads = None

    def __init__(self, model: keras.Model, label: str | None = None) -> None:
        self.label = label or f"model {model.name!r}"
        if not model.built:
            raise ValueError(
                f"Expected a built model. Received: {self.label}, whose weights don't exist yet. "
                "Call it once on some data, or give it an Input."
            )
        self.model = model
        self.runtime = f"Keras {keras.__version__} ({keras.backend.backend()})"
        inputs = getattr(model, "inputs", None)
        self.input_specs = None
        if inputs:
            self.input_specs = {
                i.name: TensorInfo(tuple(i.shape), keras.backend.standardize_dtype(i.dtype)) for i in inputs
            }
            # A Sequential has one input, and tells it only by this list.
            self._inputs = inputs[0] if isinstance(model, keras.Sequential) else model.input
            self.output_names = names_of_outputs(model)

    def run(self, batch: Arrays) -> Arrays:
        """Run one batch (see `Predictor.run`)."""
        result = predict_on_batch(self.model, self._packed(batch))
        if isinstance(result, Mapping):
            return {name: as_real(value) for name, value in result.items()}
        values = keras.tree.flatten(result)
        names = self.output_names or tuple(f"output_{i}" if i else "output" for i in range(len(values)))
        return {name: as_real(value) for name, value in zip(names, values, strict=True)}

    def step(self, batch: Arrays) -> Callable[[], object]:
        """Return a function that runs `batch` once (see `Predictor.step`)."""
        packed = self._packed(batch)
        return lambda: self.model.predict_on_batch(packed)

    def _packed(self, batch: Arrays) -> Any:
        if self.input_specs is None:
            return batch.get("", batch) if self.structure is None else _filled(self.structure, batch)
        cast = [np.asarray(batch[name], spec.dtype) for name, spec in self.input_specs.items()]
        return keras.tree.pack_sequence_as(self._inputs, cast)


class FilePredictor(Predictor):
    """A `.tflite` or `.onnx` file in its own runtime, or in the one that is named (see `open_runner`)."""

    def __init__(self, path: pathlib.Path, threads: int, runtime: str | None = None) -> None:
        self.label = str(path)
        self.runner = open_runner(path, threads, runtime)
        self.format = self.runner.format
        self.threads = self.runner.threads
        self.runtime = self.runner.runtime_version
        self.input_specs = dict(self.runner.input_specs)
        self.output_names = tuple(self.runner.output_names)
        self._scales = io_grids(self.runner)

    def accepts(self, name: str, dtype: np.dtype[Any]) -> bool:
        """Return whether `run` quantizes this dtype for the input `name`."""
        return name in self._scales and dtype.kind in "biuf" and dtype != self.runner.input_specs[name].dtype

    def run(self, batch: Arrays) -> Arrays:
        """Run one batch (see `Predictor.run`)."""
        outputs = self.runner.run(self._ready(batch))
        for name, value in outputs.items():
            if name in self._scales and value.dtype.kind in "iu":
                scale, zero_point = self._scales[name]
                outputs[name] = np.float32(scale) * (value.astype(np.float32) - zero_point)
        return {name: as_real(value) for name, value in outputs.items()}

    def step(self, batch: Arrays) -> Callable[[], object]:
        """Return a function that runs `batch` once (see `Predictor.step`)."""
        ready = self._ready(batch)
        return lambda: self.runner.run(ready)

    def _ready(self, batch: Arrays) -> Arrays:
        ready = {}
        for name, value in batch.items():
            dtype = np.dtype(self.runner.input_specs[name].dtype)
            if self.accepts(name, value.dtype):
                value = quantize(name, value, *self._scales[name], dtype.name)  # noqa: PLW2901
            ready[name] = np.ascontiguousarray(value, dtype)
        return ready


@dataclasses.dataclass(frozen=True)
class Saved:
    """A model in memory that was saved: it is evaluated as it is, and its size is that of the file.

    Attributes:
        model: the model.
        path: of its file.
    """

    model: keras.Model
    path: pathlib.Path


def open_predictor(
    source: Source,
    threads: int = 1,
    runtime: str | None = None,
    target: str | os.PathLike[str] | Target | None = None,
) -> Predictor:
    """Open a Keras model or any model file for prediction.

    Args:
        source: a Keras model, or the path of a `.tflite`, `.onnx`, or of what `tfc.load` takes.
        threads: threads of one inference (.tflite, .onnx).
        runtime: of a file (see `open_runner`); a Keras model runs in Keras.
        target: of a file (see `runtime_for`).

    Returns:
        A `Predictor`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no model, no file that can be loaded, or one that the target can't run.
    """
    check_count("threads", threads, most=MOST_THREADS)
    check_runtime(runtime)
    target = None if target is None else get_target(target)
    if isinstance(source, keras.Model):
        return KerasPredictor(source)
    if isinstance(source, Saved):
        return KerasPredictor(source.model, label=str(source.path))
    if not isinstance(source, str | os.PathLike):
        raise ValueError(
            "Expected a Keras model or a path (.tflite, .onnx, .keras, .h5, a SavedModel folder). "
            f"Received: {type(source).__name__}. {way_out(source)}"
        )
    path = pathlib.Path(source)
    if path.suffix.lower() in FORMATS:
        return FilePredictor(path, threads, runtime_for(source, target, runtime))
    return KerasPredictor(load(path), label=str(path))


def _filled(structure: Any, named: Arrays) -> Any:
    if isinstance(structure, str):
        return named[structure]
    if isinstance(structure, dict):
        return {key: _filled(part, named) for key, part in structure.items()}
    return [_filled(part, named) for part in structure]


def as_real(value: Any) -> np.ndarray:
    """Return an array whose floats are at least float32: half precision would round the metrics again."""
    array = np.asarray(keras.ops.convert_to_numpy(value) if not isinstance(value, np.ndarray) else value)
    if array.dtype.kind in "iub" or array.dtype in (np.float32, np.float64):
        return array
    return array.astype(np.float32)
