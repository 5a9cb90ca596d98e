"""Inputs in dicts and lists, and dicts within dicts: their arrays, and the names of these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tfcompress.data.array_checks import array_of, is_array


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
