"""The size of a model: bytes on disk, bytes when zipped, parameters and how many of them are not zero."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import pathlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any

import keras

from tfcompress.core.keras_private import flatten_layers, own_variables
from tfcompress.core.passthrough import Inserted, PassThrough
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.evaluation.file_constants import Count, count_onnx, count_tflite
from tfcompress.evaluation.open_predictor import KerasPredictor
from tfcompress.evaluation.predictor import Predictor
from tfcompress.runtime.external_data import external_files

CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Size:
    """What a model weighs.

    Attributes:
        file_bytes: of the file, or of all files of a folder.
        zipped_bytes: the same after deflate at level 9: what a download or an app bundle carries.
        parameters: numbers that the model holds (see `count_keras`, `count_tflite`, `count_onnx`).
        nonzeros: those that aren't zero.
        left_out: zeros that the file doesn't store (see `tfc.export(..., sparse=True)`).
    """

    file_bytes: int
    zipped_bytes: int
    parameters: int
    nonzeros: int
    left_out: int = 0

    @property
    def sparsity(self) -> float:
        """The share of parameters that are zero, 0..1."""
        return 1 - self.nonzeros / self.parameters if self.parameters else 0.0

    @property
    def stored_zeros(self) -> float:
        """The share of parameters that are zero and yet stored, 0..1.

        >>> Size(80, 40, parameters=10, nonzeros=2, left_out=6).stored_zeros
        0.2
        """
        return (self.parameters - self.nonzeros - self.left_out) / self.parameters if self.parameters else 0.0


def measure_size(predictor: Predictor, path: str | os.PathLike[str] | None = None) -> Size:
    """Weigh an open model.

    Args:
        predictor: what `open_predictor` gave.
        path: the file that it came from; None for a Keras model in memory, which is then weighed as the
            `.keras` file that it would be saved in, without the optimizer's state. A file is weighed as it
            is.

    Returns:
        `Size`.
    """
    if isinstance(predictor, KerasPredictor):
        count = count_keras(predictor.model)
    else:
        count = count_tflite(predictor.label) if predictor.format == "tflite" else count_onnx(predictor.label)
    if path is None:
        assert isinstance(predictor, KerasPredictor)
        with tempfile.TemporaryDirectory() as folder:
            return _weigh([save_without_optimizer(predictor.model, pathlib.Path(folder))], count)
    files = [pathlib.Path(path)]
    if files[0].is_dir():
        files = sorted(file for file in files[0].rglob("*") if file.is_file())
    elif predictor.format == "onnx":
        files += external_files(path)
    return _weigh(files, count)


def count_keras(model: keras.Model) -> Count:
    """Count the float weights of a Keras model, as its layers see them.

    The moving statistics of batch normalization count. Integer and boolean variables (counters, seeds) do not, nor
    does what wrappers and quantizers keep for themselves: masks, ranges. A weight that is pruned, or quantized to
    zero, is zero.

    Args:
        model: built.

    Returns:
        `Count`.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> count_keras(model)
        Count(parameters=9, nonzeros=6, left_out=0)
    """
    state: set[int] = set()
    seen: dict[int, Any] = {}
    for layer in flatten_layers(model):
        if isinstance(layer, PassThrough | Inserted):
            state |= {id(weight) for weight in own_variables(layer)}
        if isinstance(layer, CompressedLayer) and layer.built:
            seen |= {id(layer.layer.weights[place]): value for place, value in layer.transformed().items()}
    total = Count(0, 0)
    for weight in model.weights:
        if keras.backend.is_float_dtype(weight.dtype) and id(weight) not in state:
            value = seen.get(id(weight), weight.value)
            total += Count(math.prod(weight.shape), int(keras.ops.count_nonzero(value)))
    return total


def zipped_size(files: Iterable[pathlib.Path]) -> int:
    """Return the bytes that deflate at level 9 leaves of `files`, one after the other."""
    packer = zlib.compressobj(9)
    size = 0
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                size += len(packer.compress(chunk))
    return size + len(packer.flush())


def save_without_optimizer(model: keras.Model, folder: pathlib.Path) -> pathlib.Path:
    """Save a model as `.keras` and leave out what only training needs: an Adam's state triples the file.

    Args:
        model: any Keras model; not changed.
        folder: where to.

    Returns:
        The path of the file.
    """
    import h5py

    full, slim = folder / "full.keras", folder / "model.keras"
    model.save(full)
    with zipfile.ZipFile(full) as source, zipfile.ZipFile(slim, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                config: dict[str, Any] = json.loads(content)
                config.pop("compile_config", None)
                content = json.dumps(config).encode()
            elif name == "model.weights.h5":
                kept = io.BytesIO()
                with h5py.File(io.BytesIO(content), "r") as old, h5py.File(kept, "w") as new:
                    new.attrs.update(old.attrs)
                    for key in old:
                        if key != "optimizer":
                            old.copy(key, new)
                content = kept.getvalue()
            target.writestr(name, content)
    full.unlink()
    return slim


def _weigh(files: list[pathlib.Path], count: Count) -> Size:
    total = sum(file.stat().st_size for file in files)
    return Size(total, zipped_size(files), count.parameters, count.nonzeros, count.left_out)
