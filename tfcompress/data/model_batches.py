"""Data of any kind as batches for a model's inputs."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.arguments import check_count, running
from tfcompress.core.uneven_rows import check_rows, cut, is_uneven
from tfcompress.data.array_checks import array_of, check_finite, is_array
from tfcompress.data.named_inputs import check_names
from tfcompress.data.nested_inputs import unnested
from tfcompress.data.reading import inputs_of, is_list, without_lists, without_targets
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.inputs.sizes import batch_of, is_free
from tfcompress.graph.inputs.symbolic import graph_of, has_graph, input_name


def batches(model: keras.Model | FlatGraph, data: Any, batch_size: int = 32) -> Iterator[list[Any]]:
    """Yield batches as lists of arrays, one for each input of a functional model.

    Args:
        model: A functional model, or a flat graph.
        data: An array (one input); a dict or, for several inputs, a list or tuple of arrays, by input or in their
            order; or anything that yields batches of these, also with targets behind them: a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a list of batches, a generator, or a function that returns one. Targets behind
            all inputs, `(x, y)`, are left out. Arrays with different numbers of rows, as the nodes and the edges of a
            graph, are one batch, if the model takes them.
        batch_size: Samples in a batch, where `data` holds arrays.

    Raises:
        ValueError: If there is no batch, one is empty or doesn't fit the inputs, or holds no real numbers; or if
            `batch_size` isn't an integer of at least 1.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> [batch[0].shape for batch in batches(model, np.zeros((50, 4), "float32"))]
    [(32, 4), (18, 4)]
    """
    check_batch_size(batch_size)
    if data is None:
        raise ValueError("Expected calibration data: an array, or something that yields batches. Received: None.")
    count = len(model.inputs)
    data = without_lists(without_targets(data, count), count)
    fixed = batch_of(tuple(x.shape) for x in model.inputs)
    batch_size = fixed or batch_size
    if is_array(data) or isinstance(data, Mapping) or (is_list(data, count) and count > 1):
        arrays = {str(place): array for place, array in enumerate(_by_input(model, data))}
        found = (list(batch.values()) for batch in cut(arrays, batch_size))
    else:
        found = (_by_input(model, batch) for batch in inputs_of(data, count))
    empty, tried = True, False
    for place, batch in enumerate(found):
        empty = False
        if not all(len(array) for array in batch if array.ndim):
            raise ValueError(
                f"Expected at least one sample in every batch. Received: batch {place}, counted from 0, with none. "
                "Leave empty batches out."
            )
        whole = is_uneven(batch)
        if whole and not tried:
            _run_once(model, batch)
            tried = True
        yield batch if fixed is None or whole else [_filled(array, fixed) for array in batch]
    if empty:
        raise ValueError(
            "Expected at least one batch of data. Received: none. An iterator that has been used up yields nothing: "
            "pass an array, a dataset, or a function that returns a new iterator."
        )


def shapes_of(model: keras.Model, data: Any) -> dict[str, tuple[int | None, ...]] | None:
    """Return the shapes that data has, by the names of a model's inputs, where the model leaves sizes free.

    `None`: it doesn't, or the data can be gone through only once, or doesn't fit, which calibration says.
    """
    if data is None or not has_graph(model) or isinstance(data, Iterator):
        return None
    if len(model.inputs) == 1 and not is_free(tuple(x.shape) for x in model.inputs):
        return None
    try:
        first = next(batches(model, data))
    except Exception:  # whatever a data set of the user's raises
        return None
    if not is_uneven(first) and not is_free(tuple(x.shape) for x in model.inputs):
        return None
    # None of something, as an image without masks has it, is no size to try a model with.
    sizes = [[size or None for size in np.shape(array)] for array in first]
    shapes = [tuple(shape) if is_uneven(first) else (None, *shape[1:]) for shape in sizes]
    return {input_name(x): shape for x, shape in zip(model.inputs, shapes, strict=True)}


def last_is_smaller(model: keras.Model | FlatGraph, data: Any, batch_size: int) -> bool:
    """Return whether arrays make batches of which the last is smaller; `False` where how many there are isn't known.

    Args:
        model: A functional model, or a flat graph.
        data: As for `batches`.
        batch_size: Samples in a batch.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> [last_is_smaller(model, np.zeros((count, 4)), 32) for count in (20, 50, 64)]
    [False, True, False]
    """
    check_batch_size(batch_size)
    count = len(model.inputs)
    parts = list(data.values()) if isinstance(data, Mapping) else data if is_list(data, count) and count > 1 else [data]
    shapes = [tuple(part.shape) for part in parts if is_array(part) and hasattr(part, "shape")]
    rows = {shape[0] for shape in shapes if shape}
    if len(shapes) < len(parts) or len(rows) != 1 or batch_of(tuple(x.shape) for x in model.inputs) is not None:
        return False
    samples = rows.pop()
    return bool(samples > batch_size and samples % batch_size)


def _filled(array: Any, size: int) -> Any:
    """Repeat the last sample until there are as many as a model with a fixed batch takes."""
    missing = size - len(array) if array.ndim else 0
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing > 0 else array


def again(data: Any) -> Any:
    """Return data that can be gone through several times: an iterator's batches as a list, anything else as it is."""
    return list(data) if isinstance(data, Iterator) and not isinstance(data, io.IOBase) else data


def check_batch_size(batch_size: Any) -> None:
    """Raise ValueError unless a batch size is a whole number of at least 1."""
    check_count("batch_size", batch_size)


def _run_once(model: keras.Model | FlatGraph, batch: Sequence[Any]) -> None:
    """Raise ValueError unless a model takes arrays with different numbers of rows."""
    names = [input_name(x) for x in model.inputs]
    shapes = {name: tuple(x.shape) for name, x in zip(names, model.inputs, strict=True)}
    check_rows(dict(zip(names, batch, strict=True)), shapes, f"the model {model.name!r}")
    tensors = [keras.ops.convert_to_tensor(array) for array in batch]
    with running(f"the model {model.name!r}", batch), keras.StatelessScope():
        model(keras.tree.pack_sequence_as(graph_of(model).input, tensors), training=False)


def _by_input(model: keras.Model | FlatGraph, batch: Any) -> list[Any]:
    names = [x.name for x in model.inputs]
    if isinstance(batch, Mapping):
        batch = unnested(batch, names)
        check_names(batch, names)
        parts = [batch[name] for name in names]
    else:
        parts = list(batch) if isinstance(batch, list | tuple) else [batch]
    if len(parts) != len(names):
        raise ValueError(f"Expected data for the inputs {names}. Received: {len(parts)} arrays.")
    return [_fits(model, x, part) for x, part in zip(model.inputs, parts, strict=True)]


def _fits(model: keras.Model | FlatGraph, x: Any, part: Any) -> Any:
    what = f"input {x.name!r}"
    array = check_finite(array_of(part, what, keras.backend.standardize_dtype(x.dtype) == "string"), what)
    wanted, given = tuple(x.shape[1:]), tuple(array.shape[1:])
    if len(array.shape) != len(x.shape) or any(w not in (None, g) for w, g in zip(wanted, given, strict=True)):
        raise ValueError(
            f"Expected batches of shape {tuple(x.shape)} for input {x.name!r}. Received: {tuple(array.shape)}."
        )
    return array
