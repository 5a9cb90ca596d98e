"""One way to get predictions from a Keras model, a model file, a `.tflite` and a `.onnx` alike."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfcompress.core.names import nearest_names
from tfcompress.core.uneven_rows import check_rows, is_uneven
from tfcompress.data.array_checks import array_of, check_finite, numbers_of
from tfcompress.data.named_inputs import check_names
from tfcompress.data.nested_inputs import leaf_names, unnested
from tfcompress.runtime.runner import TensorInfo, count_samples, fit_inputs

Arrays = dict[str, np.ndarray]

DEFAULT_BATCH_SIZE = 32


class Predictor(abc.ABC):
    """A model that can be run, whatever it is kept in.

    Attributes:
        label: how messages call it: the path, or the model's name.
        format: "keras", "tflite" or "onnx".
        runtime: name and version of what runs it.
        threads: threads of one inference; None where only the process decides (Keras).
        input_specs: {input name: TensorInfo}; None for a subclassed model that doesn't tell.
        output_names: in order; empty where only a run tells.
    """

    label: str
    format: str
    runtime: str
    threads: int | None
    input_specs: dict[str, TensorInfo] | None
    output_names: tuple[str, ...] = ()
    structure: Any = None
    """Of the data that was checked: a dict whose arrays are their names, where the model doesn't tell its inputs."""

    @abc.abstractmethod
    def run(self, batch: Arrays) -> Arrays:
        """Run one batch of checked inputs; real values come out, those of a quantized output dequantized."""

    def step(self, batch: Arrays) -> Callable[[], object]:
        """Return a function that runs `batch` once and does nothing else, to be timed."""
        return lambda: self.run(batch)

    @property
    def batch_size(self) -> int | None:
        """The number of samples that the model takes at once; None where any number will do."""
        sizes = [spec.shape[0] for spec in (self.input_specs or {}).values() if spec.shape]
        return next((size for size in sizes if size is not None), None)

    def accepts(self, name: str, dtype: np.dtype[Any]) -> bool:
        """Return whether `run` itself converts this dtype for the input `name`."""
        return False

    def check(self, x: Any) -> Arrays:
        """Name the inputs and see that they fit, before anything runs.

        Args:
            x: an array, a list of arrays in the order of the inputs, or a dict by input name; the first
                dimension counts the samples.

        Returns:
            {input name: array}, not copied.

        Raises:
            ValueError: the number of inputs, a name, a shape or a dtype doesn't fit, or there is no sample.
        """
        if self.input_specs is None:
            self.structure = leaf_names(x) if isinstance(x, Mapping) else None
            given = unnested(x).items() if isinstance(x, Mapping) else [("", x)]
            named = {str(name): numbers_of(value, f"input {name!r}" if name else "x") for name, value in given}
            if not all(value.ndim for value in named.values()):
                raise ValueError("Expected arrays whose first dimension counts the samples. Received: a scalar in x.")
        else:
            try:
                named = name_arrays(x, tuple(self.input_specs), "input", "x")
                head = {
                    name: value[:1].astype(self.input_specs[name].dtype)
                    if self.accepts(name, value.dtype)
                    else value[:1]
                    for name, value in named.items()
                    if value.ndim
                }
                if len(head) < len(named):
                    raise ValueError(
                        "Expected arrays whose first dimension counts the samples. Received: a scalar in x."
                    )
                for name, value in named.items():
                    check_finite(value, f"input {name!r}")
                fit_inputs(head, self.input_specs)
            except ValueError as error:
                raise ValueError(f"x does not fit {self.label}: {error}") from error
        count_samples(named)
        if self.input_specs is not None:
            check_rows(named, {name: spec.shape for name, spec in self.input_specs.items()}, self.label)
        return named


def predict(predictor: Predictor, named: Arrays, batch_size: int = DEFAULT_BATCH_SIZE, before: int = 0) -> Arrays:
    """Run any number of samples in batches; a model with a fixed batch gets full ones, the surplus is
    dropped.

    Args:
        predictor: what `open_predictor` gave.
        named: what `Predictor.check` gave.
        batch_size: samples at once, where the model leaves that free.
        before: samples that came before these, for messages.

    Returns:
        {output name: array}, the batches concatenated.

    Raises:
        ValueError: an output has not one row per sample, or holds NaN. Of a whole, whose inputs have different numbers
            of rows, outputs have the rows that they have.
    """
    if is_uneven(named.values()):
        return predictor.run(named)
    size = predictor.batch_size or batch_size
    samples = count_samples(named)
    pieces: list[Arrays] = []
    for start in range(0, samples, size):
        batch = {name: value[start : start + size] for name, value in named.items()}
        here = min(size, samples - start)
        if predictor.batch_size and here < size:
            batch = {n: np.concatenate([v, np.repeat(v[-1:], size - here, axis=0)]) for n, v in batch.items()}
        outputs = predictor.run(batch)
        rows = len(next(iter(batch.values())))
        for name, value in outputs.items():
            if not value.ndim or len(value) != rows:
                raise ValueError(
                    f"Expected {rows} rows in output {name!r} of {predictor.label}, one per sample. "
                    f"Received: shape {value.shape}. A model that mixes its samples can't be run in batches."
                )
            if value.dtype.kind == "f" and np.isnan(value[:here]).any():
                raise ValueError(
                    f"Expected numbers in output {name!r} of {predictor.label}. Received: NaN for sample "
                    f"{before + start + int(np.argmax(np.isnan(value[:here]).reshape(here, -1).any(axis=1)))}"
                    ". Look for weights that are NaN or too large."
                )
        pieces.append({name: value[:here] for name, value in outputs.items()})
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def name_arrays(given: Any, names: Sequence[str], what: str, argument: str) -> Arrays:
    """Give arrays the names of a model's inputs or outputs.

    Args:
        given: an array (one name), a list or tuple of arrays in the order of `names`, or a dict by name.
        names: of the inputs or outputs.
        what: "input" or "output", for the message.
        argument: the name of the argument, for the message.

    Returns:
        {name: array} in the order of `names`.

    Raises:
        ValueError: there are more or fewer arrays than names, or other names.

    >>> name_arrays([[1, 2], [3, 4]], ["a", "b"], "output", "y")
    {'a': array([1, 2]), 'b': array([3, 4])}
    """

    def array(value: Any, name: str) -> np.ndarray:
        return array_of(value, f"{what} {name!r}" if argument == "x" else argument, strings=argument == "y")

    hints = ""
    several = isinstance(given, list | tuple) and (len(names) > 1 or (len(given) == 1 and _rank(given[0]) > 0))
    if isinstance(given, Mapping):
        given = unnested(given, names)
        if what == "input":
            check_names(given, names)
        elif len(names) == 1 and len(given) == 1:
            return {names[0]: array(next(iter(given.values())), names[0])}
        if set(given) == set(names):
            return {name: array(given[name], name) for name in names}
        received, hints = f"the names {list(given)}", nearest_names(given, names)
    elif several and len(given) == len(names):
        return {name: array(value, name) for name, value in zip(names, given, strict=True)}
    elif len(names) == 1:
        return {names[0]: array(given, names[0])}
    else:
        received = f"{len(given)} arrays" if several else f"one {type(given).__name__}"
    raise ValueError(
        f"Expected one array for each {what} {list(names)}. Received: {argument} with {received}. "
        f"Give a dict {{{what} name: array}}.{hints}"
    )


def _rank(value: Any) -> int:
    try:
        return np.ndim(value)
    except Exception:  # it is no array
        return 0
