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

NUMBERS = "biuf"
"""Kinds of dtypes, in NumPy's letters, that are real numbers."""


def is_array(value: Any) -> bool:
    """Return whether a value is an array, or can be made one: a tensor, a column of a table."""
    if isinstance(value, memoryview):
        return True
    if isinstance(value, str | bytes | Mapping | list | tuple | keras.Model):
        return False
    return hasattr(value, "__array__") or (hasattr(value, "shape") and hasattr(value, "dtype"))


def array_of(value: Any, what: str, strings: bool = False) -> np.ndarray:
    """Return a value as an array of real numbers.

    Args:
        value: An array, a tensor, anything with `__array__`, or lists of numbers.
        what: What it is, for messages, such as "input 'x'".
        strings: Whether text will do.

    Raises:
        ValueError: If it is ragged or sparse, or holds text, complex numbers, dates or objects.

    Example:

    >>> array_of([[1, 2], [3, 4]], "x").shape
    (2, 2)
    """
    kind = type(value).__name__
    if kind in ("RaggedTensor", "SparseTensor", "IndexedSlices") or hasattr(value, "tocsr"):
        raise ValueError(f"Expected a dense array for {what}. Received: a {kind}. Convert it to a dense one first.")
    check_unmasked(value, what)
    try:
        array = value if isinstance(value, np.ndarray) else _plain(value)
    except Exception as error:  # whatever an `__array__` of somebody else's raises
        raise ValueError(
            f"Expected an array of numbers for {what}. Received: {_described(value)}, which is no array: rows may be "
            f"of different lengths ({error}). Fill them up to one length."
        ) from error
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype("float64")  # no library behind NumPy knows more
    if array.dtype.kind in NUMBERS or array.dtype.name in ("bfloat16", "int4", "uint4"):
        return array
    if array.dtype.kind in "SUT" or (array.dtype.kind == "O" and _is_text(array)):
        if strings:
            return array.astype(str)
        advice = "Convert it with .astype('float32') if that is meant; it is text."
    elif array.dtype.kind == "c":
        advice = "Give real and imaginary part as channels."
    elif array.dtype.kind == "O":
        of = f" of type {type(array.ravel()[0]).__name__}" if array.size else ""
        advice = f"It holds objects{of}: fill up rows of different lengths, or convert it with .astype('float32')."
    else:
        advice = "Convert it to numbers."
    raise ValueError(f"Expected real numbers for {what}. Received: dtype {array.dtype}. {advice}")


def check_unmasked(value: Any, what: str) -> None:
    """Raise ValueError for an array that says of some values that they don't count: NumPy's functions forget that."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(
            f"Expected an array whose values all count for {what}. Received: a masked array with "
            f"{np.ma.count_masked(value):,} of {value.size:,} values masked. Leave them out, or fill them in by "
            ".filled(...)."
        )


def check_finite(array: np.ndarray, what: str) -> np.ndarray:
    """Return an array; raise ValueError if it holds NaN or infinity, and say in which row and column.

    >>> check_finite(np.array([[1.0, 2.0], [3.0, np.nan]]), "x")
    Traceback (most recent call last):
    ...
    ValueError: Expected finite numbers in x. Received: NaN in row 1, column 1 (1 of 4 values isn't finite). ...
    """
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        return array
    values = array if array.dtype.kind == "f" else array.astype("float32")
    finite = np.isfinite(values)
    if values.itemsize > 4:  # models compute in float32
        finite &= np.abs(values) <= np.finfo(np.float32).max
    if finite.all():
        return array
    at = [int(index) for index in np.argwhere(~finite)[0]]
    place = (f" in row {at[0]}" if at else "") + (f", column {at[-1]}" if len(at) > 1 else "")
    bad = int(finite.size - finite.sum())
    columns = [] if array.ndim < 2 else np.flatnonzero(~finite.reshape(-1, array.shape[-1]).any(axis=0)).tolist()
    whole = f"; no value of column {', '.join(map(str, columns[:8]))} is" if columns and finite.any() else ""
    first = values[tuple(at)]
    found = "NaN" if np.isnan(first) else "infinity" if np.isinf(first) else f"{first:.6g}, infinity in float32,"
    raise ValueError(
        f"Expected finite numbers in {what}. Received: {found}{place} ({bad:,} of {finite.size:,} values "
        f"{'is' if bad == 1 else 'are'}n't finite{whole}). Leave such samples out, or fill them in."
    )


def numbers_of(value: Any, what: str) -> np.ndarray:
    """Return a value as an array of finite real numbers (see `array_of`, `check_finite`)."""
    return check_finite(array_of(value, what), what)


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


def one_hot_classes(y: np.ndarray) -> np.ndarray | None:
    """Return the classes of one-hot rows; `None` if `y` holds anything else.

    >>> one_hot_classes(np.eye(3)[[2, 0]]), one_hot_classes(np.ones((2, 3)))
    (array([2, 0]), None)
    """
    if y.ndim < 2 or y.shape[-1] < 2 or y.dtype.kind not in NUMBERS or not y.size:
        return None
    if not np.isin(y, (0, 1)).all() or not (y.sum(axis=-1) == 1).all():
        return None
    return y.argmax(axis=-1)


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


def collected(data: Any) -> tuple[Any, Any]:
    """Go through batches of inputs and targets, as `fit` takes them, and put them together.

    Args:
        data: As `parts` takes what yields batches; or one pair of arrays.

    Returns:
        Inputs and targets, each in the structure that they have in a batch.

    Raises:
        ValueError: If there is no batch, or one has no targets.

    Example:

    >>> x, y = collected([(np.zeros((2, 3)), np.ones(2)), (np.zeros((1, 3)), np.ones(1))])
    >>> x.shape, y.shape
    ((3, 3), (3,))
    """
    found: list[tuple[Any, Any]] = []
    for part in [data] if isinstance(data, tuple) and len(data) in (2, 3) else parts(data):
        if not isinstance(part, list | tuple) or not 2 <= len(part) <= 3:
            raise ValueError(
                f"Expected batches (x, y), or y beside data. Received: a batch that is {_described(part)}. Give the "
                "targets too."
            )
        if len(part) == 3 and part[2] is not None and not found:
            warn_of_weights()
        found.append((arrays(part[0], "x"), arrays(part[1], "y")))
        if len(found) > 1 and is_uneven(keras.tree.flatten(found[0][0])):
            raise ValueError(
                "Expected batches whose inputs have as many rows each, to put them together. Received: shapes "
                f"{[x.shape for x in keras.tree.flatten(found[0][0])]}, rows that belong together. Give one such batch "
                "at a time: x and y."
            )
    if not found:
        raise ValueError(
            "Expected at least one batch of data. Received: none. An iterator that has been used up yields nothing: "
            "pass an array, a dataset, or a function that returns a new iterator."
        )
    x, y = ([pair[place] for pair in found] for place in (0, 1))
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


def leaf_names(data: Any, path: tuple[str, ...] = ()) -> Any:
    """Return the structure of a dict that may hold dicts and lists, each array in it as its name: the keys to it."""
    if isinstance(data, Mapping):
        return {key: leaf_names(part, (*path, str(key))) for key, part in data.items()}
    if isinstance(data, list | tuple) and any(map(is_array, data)):
        return [leaf_names(part, (*path, str(place))) for place, part in enumerate(data)]
    return "_".join(path)


def unnested(data: Any, names: Iterable[str] | None = None) -> Any:
    """Return what a dict of dicts holds by name; other data, and what has other names, as it is.

    Args:
        data: Of any kind.
        names: Of a model's inputs: all keys to an array, joined; or the last key of each alone. `None`: all keys,
            whatever they are.

    Example:

    >>> unnested({"text": {"ids": 1, "mask": 2}, "image": 3}, ["text_ids", "text_mask", "image"])
    {'text_ids': 1, 'text_mask': 2, 'image': 3}
    >>> unnested({"text": {"ids": 1, "mask": 2}, "image": 3}, ["ids", "mask", "image"])
    {'ids': 1, 'mask': 2, 'image': 3}
    """
    wanted = None if names is None else set(names)
    if not isinstance(data, Mapping) or wanted == set(data):
        return data
    found: dict[str, tuple[str, Any]] = {}

    def gather(key: str, structure: Any, part: Any) -> None:
        if isinstance(structure, str):
            found[structure] = key, part
            return
        places = structure.items() if isinstance(structure, dict) else enumerate(structure)
        for inner, entry in places:
            gather(str(inner), entry, part[inner])

    gather("", leaf_names(data), data)
    if wanted is None or wanted == set(found):
        return {name: part for name, (_, part) in found.items()}
    last = dict(found.values())
    return last if wanted == set(last) and len(last) == len(found) else data


def arrays(value: Any, what: str) -> Any:
    """Return what is in a dict or a list as arrays, of numbers or text."""
    return _mapped(lambda x: array_of(x, what, strings=True), value)


def _mapped(function: Callable[[Any], np.ndarray], value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _mapped(function, part) for key, part in value.items()}
    if isinstance(value, list | tuple) and any(is_array(part) and np.ndim(part) for part in value):
        return [_mapped(function, part) for part in value]
    return function(value)


def _joined(batches: list[Any]) -> Any:
    first = batches[0]
    if isinstance(first, dict):
        return {key: _joined([batch[key] for batch in batches]) for key in first}
    if isinstance(first, list):
        return [_joined(list(column)) for column in zip(*batches, strict=True)]
    return np.concatenate([np.atleast_1d(batch) for batch in batches])


def _plain(value: Any) -> np.ndarray:
    if isinstance(value, list | tuple):
        return np.asarray([_plain(part) if is_array(part) else part for part in value])
    tensor = is_array(value) and not hasattr(value, "__array__") and not isinstance(value, memoryview)
    return np.asarray(keras.ops.convert_to_numpy(value) if tensor else value)


def _is_text(array: np.ndarray) -> bool:
    return array.size > 0 and all(isinstance(part, str | bytes) for part in array.ravel()[:100])


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" + (f" of shape {tuple(shape)}" if isinstance(shape, tuple | list) else "")
