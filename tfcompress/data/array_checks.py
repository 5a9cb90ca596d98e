"""Arrays of numbers from whatever is given as one, and what is no such array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.core.names import listed

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
            f"Expected an array of numbers for {what}. Received: {described(value)}, which is no array: rows may be "
            f"of different lengths ({error}). Pad them to one length."
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
        advice = f"It holds objects{of}: pad rows of different lengths, or convert it with .astype('float32')."
    else:
        advice = "Convert it to numbers."
    raise ValueError(f"Expected real numbers for {what}. Received: dtype {array.dtype}. {advice}")


def check_unmasked(value: Any, what: str) -> None:
    """Raise ValueError for an array with masked values, which NumPy's functions would take as numbers."""
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
    whole = f"; no value of column {listed(columns)} is" if columns and finite.any() else ""
    first = values[tuple(at)]
    found = "NaN" if np.isnan(first) else "infinity" if np.isinf(first) else f"{first:.6g}, infinity in float32,"
    raise ValueError(
        f"Expected finite numbers in {what}. Received: {found}{place} ({bad:,} of {finite.size:,} values "
        f"{'is' if bad == 1 else 'are'}n't finite{whole}). Leave such samples out, or fill them in."
    )


def numbers_of(value: Any, what: str) -> np.ndarray:
    """Return a value as an array of finite real numbers (see `array_of`, `check_finite`)."""
    return check_finite(array_of(value, what), what)


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


def _plain(value: Any) -> np.ndarray:
    if isinstance(value, list | tuple):
        return np.asarray([_plain(part) if is_array(part) else part for part in value])
    tensor = is_array(value) and not hasattr(value, "__array__") and not isinstance(value, memoryview)
    return np.asarray(keras.ops.convert_to_numpy(value) if tensor else value)


def _is_text(array: np.ndarray) -> bool:
    return array.size > 0 and all(isinstance(part, str | bytes) for part in array.ravel()[:100])


def described(value: Any) -> str:
    """Return the type of a value, and its shape where it has one."""
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" + (f" of shape {tuple(shape)}" if isinstance(shape, tuple | list) else "")
