"""`package.module:function`: whatever data a function returns that takes nothing.

It returns data to train with and data to test on, `(train, test)`, each in a form that `fit` takes: arrays `(x, y)`, a
`tf.data.Dataset`, a `keras.utils.PyDataset` or a generator of batches; or one of these, which is divided; or a
`tfcompress.pipeline.Dataset`.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.core.arguments import short
from tfcompress.data.array_checks import is_array
from tfcompress.data.dataset import Data, Dataset
from tfcompress.data.reading import called, is_pair, pairs
from tfcompress.data.sources.samples import Targets, divided, stream
from tfcompress.data.sources.source import TEST_SHARE, Request, Source

FORM = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def _open(place: str, request: Request) -> Dataset:
    function = _found(place)
    given = called(function)
    name = place.rpartition(":")[2]
    if isinstance(given, Dataset):
        return given
    if _is_arrays(given):
        x, y = given
        drawn = np.random.default_rng(request.seed).permutation(len(x))
        train, test = np.split(drawn, [len(x) - max(1, round(TEST_SHARE * len(x)))])
        x, y = np.asarray(x), np.asarray(y)
        return Data(name, x[train], y[train], x[test], y[test])
    if isinstance(given, tuple) and len(given) == 2 and not is_pair(given):
        if all(map(_is_arrays, given)):
            return Data(name, *given[0], *given[1])
        train_part, train_seen = _streamed(given[0], lambda: called(function)[0], place)
        test_part, test_seen = _streamed(given[1], lambda: called(function)[1], place)
        counts = [seen.classes for seen in (train_seen, test_seen)]
        classes = None if None in counts else max(count or 0 for count in counts)
        train_split, test_split = (
            stream(records, seen.samples, _as_classes(seen), each=each)
            for (records, each), seen in ((train_part, train_seen), (test_part, test_seen))
        )
        return Dataset(name, train_split, test_split, classes=classes)
    (records, each), seen = _streamed(given, lambda: called(function), place)
    train, test = divided(records, seen.samples, _as_classes(seen), request.seed, each=each)
    return Dataset(name, train, test, classes=seen.classes)


def _found(place: str) -> Callable[..., Any]:
    """Return the function, of a module that may lie in the current folder."""
    module, _, name = place.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise ValueError(
            f"Expected package.module:function. Received: {place}, whose module can't be imported from {here}: {error}."
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise ValueError(
            f"Expected a function {name!r} in {module}. Received: {'none' if found is None else short(found)}."
        )
    function: Callable[..., Any] = found
    return function


def _is_arrays(data: Any) -> bool:
    """Return whether data is `(x, y)` of an array each."""
    return is_pair(data) and len(data) == 2 and is_array(data[0]) and is_array(data[1])


def _streamed(data: Any, anew: Callable[[], Any], place: str) -> tuple[tuple[Callable[[], Any], int], Targets]:
    """Return a function that makes a `tf.data.Dataset` of samples, the bytes of one, and what the targets are.

    Args:
        data: Arrays, or what yields batches.
        anew: Makes it once more: an iterator yields its batches only once.
        place: What was opened, for messages.
    """
    import tensorflow as tf

    if isinstance(data, tf.data.Dataset):
        batches: Callable[[], Any] = lambda: data  # noqa: E731
    else:

        def every() -> Iterator[Any]:
            yield from pairs(anew() if isinstance(data, Iterator) else data)

        first = next(pairs(anew() if isinstance(data, Iterator) else data))
        signature = keras.tree.map_structure(
            lambda array: tf.TensorSpec((None, *np.shape(array)[1:]), np.asarray(array).dtype), first
        )
        batches = lambda: tf.data.Dataset.from_generator(every, output_signature=tuple(signature))  # noqa: E731
    spec = batches().element_spec
    if not isinstance(spec, tuple) or len(spec) != 2 or not (isinstance(spec[0], Mapping) or hasattr(spec[0], "shape")):
        raise ValueError(
            f"Expected batches (x, y) from {place}. Received: {spec}. Return inputs and targets, as fit takes "
            "them, without weights."
        )
    seen = Targets()
    for _, y in batches():
        seen.see(np.asarray(y))
    if not seen.samples:
        raise ValueError(f"Expected at least one batch from {place}. Received: none.")
    each = sum(
        int(np.prod([size or 64 for size in one.shape[1:]])) * one.dtype.size for one in keras.tree.flatten(spec[0])
    )
    return (lambda: batches().unbatch(), each), seen


def _as_classes(seen: Targets) -> Any:
    """Return a function that makes numbers of one-hot rows; `None` where they are what they are."""
    import tensorflow as tf

    return (lambda x, y: (x, tf.argmax(y, axis=-1))) if seen.one_hot else None


SOURCE = Source(
    "package.module:function, which returns data",
    lambda place: FORM.fullmatch(place) is not None and not os.path.exists(place),
    _open,
)
