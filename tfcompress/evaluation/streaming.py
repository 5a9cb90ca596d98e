"""Data of any kind as batches of named arrays, for a Keras model and a file alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.export.inputs import TensorInfo, count_samples, fit_inputs

Arrays = dict[str, np.ndarray]


def stream(data: Any, specs: Mapping[str, TensorInfo], batch_size: int) -> Iterator[Arrays]:
    """Yield batches by input name.

    Args:
        data: an array (one input); a dict, or for several inputs a list or tuple of arrays; or anything that yields
            batches of these, also with targets behind them: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a list
            of batches, a generator, or a function that returns one.
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
    for given in _parts(data, len(specs)):
        named = fit_inputs(given, specs)
        samples = count_samples(named)
        for start in range(0, samples, batch_size):
            empty = False
            yield {name: value[start : start + batch_size] if value.ndim else value for name, value in named.items()}
    if empty:
        raise ValueError(
            "Expected at least one batch of data. Received: none. An iterator that has been used up yields nothing: "
            "pass an array, a dataset, or a function that returns a new iterator."
        )


def _parts(data: Any, count: int) -> Iterator[Any]:
    if data is None:
        raise ValueError(
            "Expected data: an array, a list or dict of arrays, or something that yields batches. Received: None. "
            "A few samples like those that the model will see are enough."
        )
    if callable(data) and not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        data = data()
    if _is_array(data) or isinstance(data, Mapping) or (_is_list(data, count) and count > 1):
        yield _plain(data)
    elif isinstance(data, keras.utils.PyDataset):
        yield from (_plain(_without_targets(data[place], count)) for place in range(len(data)))
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        yield from (_plain(_without_targets(batch, count)) for batch in data)
    else:
        raise ValueError(
            f"Expected an array, or something that yields batches. Received: data of type {type(data).__name__}."
        )


def _is_array(data: Any) -> bool:
    return hasattr(data, "shape") and hasattr(data, "dtype")


def _is_list(data: Any, count: int) -> bool:
    return isinstance(data, list | tuple) and len(data) == count and all(_is_array(part) for part in data)


def _without_targets(batch: Any, count: int) -> Any:
    if isinstance(batch, list | tuple) and batch and not (_is_list(batch, count) and count > 1):
        return batch[0]
    return batch


def _plain(given: Any) -> Any:
    """Return tensors as arrays."""
    return keras.tree.map_structure(lambda x: np.asarray(x) if _is_array(x) else x, given)
