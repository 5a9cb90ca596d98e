"""Data of any kind as batches of named arrays, for a Keras model and a file alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.core.uneven_rows import check_rows, cut
from tfcompress.data.array_checks import is_array
from tfcompress.data.named_inputs import TensorInfo, count_samples, fit_inputs
from tfcompress.data.reading import inputs_of, joined_inputs, without_targets, yields_pairs

Arrays = dict[str, np.ndarray]

MOST_SAMPLES = 1024
"""Of batches no more are gone through to compare on than hold so many: some never end."""


def stream(data: Any, specs: Mapping[str, TensorInfo], batch_size: int) -> Iterator[Arrays]:
    """Yield batches by input name.

    Args:
        data: an array (one input); a dict, or for several inputs a list or tuple of arrays; or anything that yields
            batches of these, also with targets behind them: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a list
            of batches, a generator, or a function that returns one. Different numbers of rows are one batch.
        specs: {input name: TensorInfo}.
        batch_size: samples in a batch, at most.

    Raises:
        ValueError: there is no sample, or a batch doesn't fit.

    Example:
        >>> specs = {"x": TensorInfo((None, 4), "float32")}
        >>> [batch["x"].shape for batch in stream(np.zeros((50, 4)), specs, 32)]
        [(32, 4), (18, 4)]
    """
    empty = True
    for given in inputs_of(data, len(specs)):
        named = fit_inputs(given, specs, finite=True)
        count_samples(named)  # there must be one
        check_rows(named, {name: spec.shape for name, spec in specs.items()}, "the model")
        for batch in cut(named, batch_size):
            empty = False
            yield batch
    if empty:
        raise ValueError(
            "Expected at least one batch of data. Received: none. An iterator that has been used up yields nothing: "
            "pass an array, a dataset, or a function that returns a new iterator."
        )


def first_samples(data: Any, specs: Mapping[str, TensorInfo] | None, most: int = MOST_SAMPLES) -> Any:
    """Return arrays as they are, and the first of what yields batches as arrays, in both cases without targets.

    Args:
        data: as `stream` takes it.
        specs: of the inputs; None: they aren't known.
        most: batches are gone through until they hold so many samples.

    Example:
        >>> first_samples(iter([np.zeros((2, 4)), np.zeros((2, 4)), np.zeros((2, 4))]), None, most=3).shape
        (4, 4)
    """
    count = 1 if specs is None else len(specs)
    data = without_targets(data, count)
    return joined_inputs(data, count, most) if yields_pairs(data) or _lists_batches(data, specs) else data


def _lists_batches(data: Any, specs: Mapping[str, TensorInfo] | None) -> bool:
    """Return whether data is a list of batches, rather than one of inputs, of samples or of numbers."""
    if not isinstance(data, list) or not data:
        return False
    first = data[0]
    if isinstance(first, tuple | list | Mapping):
        return any(map(is_array, keras.tree.flatten(first)))
    one = None if specs is None or len(specs) > 1 else next(iter(specs.values()), None)
    return one is not None and is_array(first) and np.ndim(first) == len(one.shape)


class Carried:
    """States that go from run to run: zeros first, then what the run before gave.

    Args:
        states: {input name: TensorInfo}; without any, nothing is carried.

    Example:
        >>> carried = Carried({"state": TensorInfo((1, 2), "float32")})
        >>> carried.take([np.ones((1, 3)), np.full((1, 2), 5.0)])
        >>> carried.values["state"].tolist()
        [[5.0, 5.0]]
    """

    def __init__(self, states: Mapping[str, TensorInfo]):
        shapes = {name: [size or 1 for size in spec.shape] for name, spec in states.items()}
        self.values: Arrays = {name: np.zeros(shape, states[name].dtype) for name, shape in shapes.items()}
        self.samples = next((shape[0] for shape in shapes.values()), None)

    def check(self, batch: Arrays) -> None:
        """Raise ValueError if a batch holds fewer samples than the states are for."""
        if self.samples not in (None, count_samples(batch)):
            raise ValueError(
                f"Expected batches of {self.samples} samples, as many as the stateful layers were made for. Received: "
                f"{count_samples(batch)}. Drop the rest."
            )

    def take(self, outputs: Iterable[np.ndarray]) -> None:
        """Take in the outputs of a run, of which the states are the last."""
        if self.values:
            self.values = dict(zip(self.values, list(outputs)[-len(self.values) :], strict=True))
