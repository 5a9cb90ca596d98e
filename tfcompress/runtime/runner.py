"""What is common to the runtimes: a file is run by the names of its inputs and outputs."""

import abc
import contextlib
import importlib.metadata
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfcompress.core.arguments import cannot_run, check_path
from tfcompress.core.error_messages import told
from tfcompress.core.uneven_rows import check_rows, cut, is_uneven
from tfcompress.data.named_inputs import TensorInfo, count_samples, fit_inputs

FORMATS = {".tflite": "tflite", ".onnx": "onnx"}
"""The format that each suffix stands for."""

DEFAULT_BATCH_SIZE = 32


def format_of(path: str | os.PathLike[str]) -> str:
    """Return "tflite" or "onnx", as the suffix of `path` says.

    Raises:
        ValueError: the suffix is another one.

    >>> format_of("model.onnx")
    'onnx'
    """
    suffix = pathlib.Path(check_path(path)).suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(
            f"Expected a path that ends in {' or '.join(map(repr, FORMATS))}. Received: {os.fspath(path)!r}. "
            "Give the file the suffix of the format that it is to have."
        )
    return FORMATS[suffix]


class RuntimeRefusal(ValueError):
    """A runtime can't load or run a file.

    Args:
        message: What is to be said.
        reason: What the runtime raised.
    """

    def __init__(self, message: str, reason: Exception):
        super().__init__(message)
        self.reason = reason


@contextlib.contextmanager
def refusals(path: pathlib.Path, given: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Raise what a runtime raises while it runs a file as `RuntimeRefusal`."""
    try:
        yield
    except Exception as error:  # each runtime raises its own, ONNX Runtime about a dozen
        shapes = {name: array.shape for name, array in given.items()}
        if is_uneven(given.values()):
            raise RuntimeRefusal(str(cannot_run(path.name, given, error)), error) from error
        raise RuntimeRefusal(
            f"Expected inputs that {path.name} can be run on. Received: {shapes}, on which its runtime failed: "
            f"{told(error)}. Give samples like those that the model was made for.",
            error,
        ) from error


class Runner(abc.ABC):
    """A model file, loaded by the runtime that will run it.

    Attributes:
        path: the file.
        format: "tflite" or "onnx".
        runtime: the runtime's package, and its name.
        threads: how many threads one inference may use.
        input_specs: {input name: TensorInfo}, in the order of the file.
        output_specs: {output name: TensorInfo}, in the order of the file.
    """

    format: str
    runtime: tuple[str, str]

    def __init__(
        self,
        path: pathlib.Path,
        threads: int,
        input_specs: Mapping[str, TensorInfo],
        output_specs: Mapping[str, TensorInfo],
    ) -> None:
        self.path = path
        self.threads = threads
        self.input_specs = dict(input_specs)
        self.output_specs = dict(output_specs)

    @property
    def runtime_version(self) -> str:
        """Name and version of the runtime."""
        package, name = self.runtime
        return f"{name} {importlib.metadata.version(package)}"

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs, in the order of the file."""
        return tuple(self.output_specs)

    @property
    def batch_size(self) -> int | None:
        """The number of samples that the file takes at once; None where any number will do."""
        sizes = {spec.shape[0] for spec in self.input_specs.values() if spec.shape}
        fixed = {size for size in sizes if size is not None}
        return min(fixed) if fixed else None

    @abc.abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the file once.

        Args:
            inputs: {input name: array of the shape and dtype in `input_specs`}.

        Returns:
            {output name: array}, in the order of the file.

        Raises:
            ValueError: the runtime fails on these inputs.
        """

    def predict(self, x: Any, batch_size: int | None = None) -> Any:
        """Run any number of samples, in batches.

        Args:
            x: an array (one input), a list of arrays in the order of `input_specs`, or a dict by input name.
                The first dimension counts the samples; inputs with different numbers of rows, as those of a graph,
                are given to the file as they are. A dtype is converted where that loses no meaning
                (float64 to float32, uint8 to float32; never a float to an integer).
            batch_size: samples at once; None: the file's own, or 32 where that is free. A file with a fixed
                batch always gets full batches: the last one is filled up and the surplus dropped.

        Returns:
            An array, or for several outputs a dict {output name: array}, the batches concatenated.

        Raises:
            ValueError: `x` doesn't fit the inputs.
        """
        named = fit_inputs(x, self.input_specs)
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"Expected batch_size to be None or at least 1. Received: batch_size={batch_size}.")
        check_rows(named, {name: spec.shape for name, spec in self.input_specs.items()}, self.path.name)
        size = self.batch_size or batch_size or DEFAULT_BATCH_SIZE
        samples = count_samples(named)
        if is_uneven(named.values()):
            size = samples
        pieces = []
        for batch in cut(named, size):
            here = count_samples(batch)
            short = self.batch_size and here < size
            outputs = self.run({name: fill(array, size) for name, array in batch.items()} if short else batch)
            if samples > size or here < size:
                outputs = {name: self._rows(name, value, size, here) for name, value in outputs.items()}
            pieces.append(outputs)
        joined = {
            name: pieces[0][name] if len(pieces) == 1 else np.concatenate([piece[name] for piece in pieces])
            for name in self.output_names
        }
        return next(iter(joined.values())) if len(joined) == 1 else joined

    def _rows(self, name: str, value: np.ndarray, size: int, wanted: int) -> np.ndarray:
        full = size if self.batch_size else wanted
        if not value.ndim or value.shape[0] != full:
            raise ValueError(
                f"Expected output {name!r} to have one row per sample, {full}. Received: shape "
                f"{value.shape}. Its batches can't be joined: give predict() as many samples "
                "as the file takes at once."
            )
        return value[:wanted]


def fill(array: np.ndarray, size: int) -> np.ndarray:
    """Repeat the last sample until there are `size`."""
    if not array.ndim:
        return array
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
