"""Data of any kind, as `fit` takes it: arrays, batches of them, and what is no data at all."""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.core.arguments import short
from tfcompress.core.error_messages import user_level
from tfcompress.core.uneven_rows import is_uneven
from tfcompress.data.array_checks import array_of, described, is_array
from tfcompress.data.nested_inputs import arrays


def parts(data: Any, count: int = 1) -> Iterator[Any]:
    """Yield data as it comes: arrays as one part, else batch after batch, with what stands behind the inputs.

    Args:
        data: An array; a dict, or for several inputs a list or tuple of arrays; or anything that yields batches of
            these: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a list of batches, a generator, or a function that
            returns one.
        count: How many inputs there are.

    Raises:
        ValueError: If it is something else.
    """
    if data is None:
        raise ValueError(
            "Expected data: an array, a list or dict of arrays, or something that yields batches. Received: None. "
            "A few samples like those that the model will see are enough."
        )
    if callable(data) and not hasattr(data, "__iter__") and not hasattr(data, "__getitem__") and not is_array(data):
        data = called(data)
    data = without_lists(data, count)
    if isinstance(data, keras.utils.PyDataset):
        yield from (data[place] for place in range(len(data)))
    elif is_array(data) or isinstance(data, Mapping) or (count > 1 and is_list(data, count)):
        yield data
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes | io.IOBase):
        yield from data
    else:
        raise ValueError(
            f"Expected an array, or something that yields batches. Received: data of type {type(data).__name__}."
        )


def without_lists(data: Any, count: int = 1) -> Any:
    """Return samples that are lists of lists of numbers as an array, of several inputs as a list of arrays.

    What is anything else comes back as it is: lists of arrays are batches, or inputs.

    >>> without_lists([[1.0, 2.0], [3.0, 4.0]]).shape, without_lists([[[1]], [[2, 3]]], 2)[1].shape
    ((2, 2), (1, 2))
    """
    if not isinstance(data, list | tuple) or not data or not all(map(_is_nested, data)):
        return data
    if count > 1 and len(data) == count:
        return [array_of(part, "the data") for part in data]
    return array_of(data, "the data")


def _is_nested(value: Any) -> bool:
    """Return whether a value is a list of lists, at any depth, whose first entry is a plain number."""
    if not isinstance(value, list | tuple):
        return False
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return isinstance(value, bool | int | float | np.number)


def called(function: Callable[..., Any]) -> Any:
    """Return what a function returns that takes nothing; raise ValueError for anything else that can be called."""
    try:
        if isinstance(function, type | keras.layers.Layer):
            raise TypeError("it makes no batches")
        inspect.signature(function).bind()
    except (TypeError, ValueError) as error:
        raise ValueError(
            "Expected an array, something that yields batches, or a function without arguments that returns such. "
            f"Received: {short(function)} ({error})."
        ) from error
    return function()


def without_targets(data: Any, count: int = 1) -> Any:
    """Return the inputs of `(x, y)` or `(x, y, weights)`, which `fit` takes as such; anything else as it is.

    >>> without_targets((np.zeros((3, 2)), np.zeros(3))).shape, len(without_targets([np.zeros((3, 2))] * 2))
    ((3, 2), 2)
    """
    return data[0] if is_pair(data, count) else data


def is_pair(data: Any, count: int = 1) -> bool:
    """Return whether data is a tuple of a model's inputs and of targets, all samples in each, and not of batches."""
    if not isinstance(data, tuple) or not 2 <= len(data) <= 3 or (count > 1 and is_list(data, count)):
        return False
    x, y = data[:2]
    if isinstance(x, Mapping):
        return is_array(y) or (isinstance(y, Mapping) and set(y) != set(x))
    return ((count == 1 and is_array(x)) or is_list(x, count)) and (is_array(y) or isinstance(y, Mapping))


def warn_of_weights() -> None:
    """Warn that the weights of samples don't count."""
    warnings.warn("Sample weights are left out: every sample counts the same.", stacklevel=user_level())


def inputs_of(data: Any, count: int = 1) -> Iterator[Any]:
    """Yield the inputs of `parts`, without targets and weights."""
    for part in parts(without_targets(data, count), count):
        yield part[0] if isinstance(part, list | tuple) and part and not (count > 1 and is_list(part, count)) else part


def is_list(data: Any, count: int) -> bool:
    """Return whether data is a list or tuple of so many arrays."""
    return isinstance(data, list | tuple) and len(data) == count and all(map(is_array, data))


def yields_pairs(data: Any) -> bool:
    """Return whether data is to be gone through for batches of inputs and targets, rather than an array of inputs."""
    if isinstance(data, keras.utils.PyDataset | Iterator):
        return True
    if is_array(data) or isinstance(data, Mapping | str | bytes | list | tuple):
        return False
    return isinstance(data, Iterable) or callable(data)


def pairs(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield batches of inputs and targets, as `fit` takes them, one after the other.

    Args:
        data: As `parts` takes what yields batches; or one pair of arrays.

    Raises:
        ValueError: If there is no batch, or one has no targets.

    Example:

    >>> [(len(x), y) for x, y in pairs([(np.zeros((2, 3)), np.ones(2)), (np.zeros((1, 3)), np.ones(1))])]
    [(2, array([1., 1.])), (1, array([1.]))]
    """
    first: Any = None
    for part in [data] if isinstance(data, tuple) and len(data) in (2, 3) else parts(data):
        if not isinstance(part, list | tuple) or not 2 <= len(part) <= 3:
            raise ValueError(
                f"Expected batches (x, y), or y beside data. Received: a batch that is {described(part)}. Give the "
                "targets too."
            )
        if len(part) == 3 and part[2] is not None and first is None:
            warn_of_weights()
        if first is not None and is_uneven(keras.tree.flatten(first)):
            raise ValueError(
                "Expected batches whose inputs have as many rows each, to put them together. Received: shapes "
                f"{[x.shape for x in keras.tree.flatten(first)]}, rows that belong together. Give one such batch "
                "at a time: x and y."
            )
        x = arrays(part[0], "x")
        first = x if first is None else first
        yield x, arrays(part[1], "y")
    if first is None:
        raise ValueError(
            "Expected at least one batch of data. Received: none. An iterator that has been used up yields nothing: "
            "pass an array, a dataset, or a function that returns a new iterator."
        )


def collected(data: Any) -> tuple[Any, Any]:
    """Go through batches of inputs and targets, as `pairs` yields them, and put them together.

    Returns:
        Inputs and targets, each in the structure that they have in a batch.

    Raises:
        ValueError: If there is no batch, or one has no targets.

    Example:

    >>> x, y = collected([(np.zeros((2, 3)), np.ones(2)), (np.zeros((1, 3)), np.ones(1))])
    >>> x.shape, y.shape
    ((3, 3), (3,))
    """
    x, y = (list(column) for column in zip(*pairs(data), strict=True))
    return _joined(x), _joined(y)


def joined_inputs(data: Any, count: int = 1, most: int | None = None) -> Any:
    """Go through batches, with targets or without, and put their inputs together: all, or until there are `most`.

    Of batches whose inputs have different numbers of rows, which belong together, the first alone is returned.
    """
    found: list[Any] = []
    samples = 0
    for part in inputs_of(data, count):
        found.append(arrays(part, "x"))
        if is_uneven(keras.tree.flatten(found[0])):
            break
        samples += len(np.atleast_1d(keras.tree.flatten(found[-1])[0]))
        if most is not None and samples >= most:
            break
    if not found:
        raise ValueError("Expected at least one batch of data. Received: none. An iterator yields its data only once.")
    return _joined(found)


def _joined(batches: list[Any]) -> Any:
    first = batches[0]
    if isinstance(first, dict):
        return {key: _joined([batch[key] for batch in batches]) for key in first}
    if isinstance(first, list):
        return [_joined(list(column)) for column in zip(*batches, strict=True)]
    return np.concatenate([np.atleast_1d(batch) for batch in batches])
