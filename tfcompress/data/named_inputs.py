"""Fit data to named inputs: names, shapes and dtypes."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfcompress.core.names import nearest_names
from tfcompress.core.uneven_rows import is_uneven
from tfcompress.data.array_checks import array_of, check_finite
from tfcompress.data.nested_inputs import unnested


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """One input or output.

    Attributes:
        shape: Its sizes; None: free.
        dtype: The NumPy name of its dtype.
        scale: Of a file's quantized integers: one of them, q, stands for `scale * (q - zero_point)`; None of others.
        zero_point: Likewise.
    """

    shape: tuple[int | None, ...]
    dtype: str
    scale: float | None = dataclasses.field(default=None, compare=False)
    zero_point: int | None = dataclasses.field(default=None, compare=False)


def fit_inputs(x: Any, specs: Mapping[str, TensorInfo], finite: bool = False) -> dict[str, np.ndarray]:
    """Give `x` the names and dtypes of `specs`, or say why it doesn't fit.

    Args:
        x: an array, a list or tuple of arrays in the order of `specs`, or a dict by name.
        specs: {input name: TensorInfo}; the first dimension (the batch) is free here.
        finite: whether NaN and infinity are refused.

    Returns:
        {input name: array}, contiguous, in the order of `specs`.

    Raises:
        ValueError: a name, the number of inputs, a shape or a dtype is wrong.
    """
    named = by_name(x, specs)
    fitted = {}
    for name, spec in specs.items():
        array = array_of(named[name], f"input {name!r}")
        if finite:
            check_finite(array, f"input {name!r}")
        if not np.can_cast(array.dtype, spec.dtype, casting="same_kind") or _would_wrap(array, spec.dtype):
            raise ValueError(
                f"Expected input {name!r} to be {spec.dtype}. Received: dtype {array.dtype}. "
                f"Convert it with .astype({spec.dtype!r}) if that is meant."
            )
        wrong = len(array.shape) != len(spec.shape) or any(
            size is not None and size != given for size, given in zip(spec.shape[1:], array.shape[1:], strict=True)
        )
        if wrong:
            free = ("batch", *spec.shape[1:]) if spec.shape else ()
            raise ValueError(
                f"Expected input {name!r} to have shape {free}. Received: shape {array.shape}. "
                "The first dimension counts the samples."
            )
        fitted[name] = np.ascontiguousarray(array, spec.dtype).reshape(array.shape)
    return fitted


def _would_wrap(array: np.ndarray, dtype: str) -> bool:
    """Return whether whole numbers lie outside of what `dtype` holds."""
    if array.dtype.kind not in "iu" or np.dtype(dtype).kind not in "iu" or not array.size:
        return False
    limits = np.iinfo(dtype)
    return bool(array.min() < limits.min or array.max() > limits.max)


def count_samples(named: Mapping[str, np.ndarray]) -> int:
    """Return how many samples the inputs hold (1 where none has a batch dimension, or they are one whole).

    Raises:
        ValueError: there is no sample.
    """
    counts = {name: len(array) for name, array in named.items() if array.ndim}
    samples = 1 if is_uneven(named.values()) else next(iter(counts.values()), 1)
    if not samples:
        raise ValueError("Expected at least one sample. Received: none.")
    return samples


def check_names(given: Iterable[str], names: Sequence[str]) -> None:
    """Raise ValueError, with the nearest, unless the names of data are those of a model's inputs.

    >>> check_names(["imgae"], ["image"])
    Traceback (most recent call last):
    ...
    ValueError: Expected one array for each of the inputs ['image']. Received: ['imgae']. Did you mean 'image'?
    """
    given = list(given)
    if set(given) != set(names):
        hints = nearest_names(given, names)
        raise ValueError(f"Expected one array for each of the inputs {list(names)}. Received: {given}.{hints}")


def by_name(x: Any, specs: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """Return data, an array, a list or a dict, as a dict by input name; raise ValueError if it doesn't fit."""
    names = list(specs)
    if isinstance(x, Mapping):
        named = dict(unnested(x, names))
        check_names(named, names)
        return named
    if len(names) == 1 and not (isinstance(x, Sequence) and len(x) == 1 and hasattr(x[0], "shape")):
        return {names[0]: x}
    if not isinstance(x, Sequence) or len(x) != len(names):
        given = len(x) if isinstance(x, Sequence) else f"one {type(x).__name__}"
        raise ValueError(
            f"Expected a list or a dict of {len(names)} arrays, for the inputs {names}. Received: {given}."
        )
    return dict(zip(names, x, strict=True))
