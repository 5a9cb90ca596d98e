"""`package.module:function`: whatever data a function returns that takes nothing.

It returns data to train with and data to test on, `(train, test)`, each in a form that `fit` takes: arrays `(x, y)`, a
`tf.data.Dataset`, a `keras.utils.PyDataset` or a generator of batches; or one of these, which is divided; or a
`tfcompress.pipeline.Dataset`. What yields batches is gone through once for its targets.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.core.arguments import short
from tfcompress.core.error_messages import told
from tfcompress.data.array_checks import array_of, is_array
from tfcompress.data.dataset import Data, Dataset
from tfcompress.data.reading import called, is_pair, pairs, parts
from tfcompress.data.sources.division import divide, said
from tfcompress.data.sources.samples import divided, stream
from tfcompress.data.sources.source import Request, Source
from tfcompress.data.sources.targets import Targets, classes_of
from tfcompress.data.splits import Stream

FORM = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")

MOST_BATCHES = 100_000
"""Of what doesn't say how many it has: more have no end."""

BATCH_SIZE = 32
"""Samples that are looked at together, where a function gives single ones."""


def _open(place: str, request: Request) -> Dataset:
    function = _found(place)
    given = called(function)
    name = place.rpartition(":")[2]
    if isinstance(given, Dataset):
        return given
    if isinstance(given, tuple) and len(given) > 3 and all(map(is_array, given)):
        raise ValueError(
            f"Expected (x, y), or ((x_train, y_train), (x_test, y_test)), from {place}. Received: {len(given)} arrays "
            "beside each other. Put those together that belong together."
        )
    if _is_arrays(given):
        x, y = given[0], array_of(given[1], "y", strings=True)
        x = array_of(x, "x")
        if len(x) != len(y):
            raise ValueError(f"Expected as many targets as inputs. Received: {len(x):,} and {len(y):,} from {place}.")
        seen = Targets()
        seen.see(y)
        chosen, others = divide(len(y), seen.labels(), request.seed, seen.named, seen.otherwise())
        drawn = said(request.seed, by_class=seen.labels() is not None)
        return Data(name, x[chosen], y[chosen], x[others], y[others], drawn=drawn)
    if isinstance(given, tuple) and len(given) == 2 and not is_pair(given):
        if all(map(_is_arrays, given)):
            return Data(name, *given[0], *given[1])
        first = streamed(given[0], lambda: called(function)[0], place)
        second = streamed(given[1], lambda: called(function)[1], place)
        classes = classes_of([first.targets, second.targets])
        train_split, test_split = (one.split(classes.names) for one in (first, second))
        return Dataset(name, train_split, test_split, None, classes.number, classes.names, classes.smallest)
    found = streamed(given, lambda: called(function), place)
    classes = classes_of([found.targets])
    train, test = divided(found.samples, found.targets, seed=request.seed, **found.how(classes.names))
    drawn = said(request.seed, by_class=classes.number is not None)
    return Dataset(name, train, test, None, classes.number, classes.names, classes.smallest, drawn)


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


@dataclasses.dataclass(frozen=True)
class Streamed:
    """What yields batches, gone through once.

    Attributes:
        place: The function that made it.
        samples: Makes a `tf.data.Dataset` of its samples.
        each: Bytes of a sample, about.
        named: What its targets are, by the names of outputs; of one alone as "".
    """

    place: str
    samples: Callable[[], Any]
    each: int
    named: Mapping[str, Targets]

    @property
    def targets(self) -> Targets:
        """What the targets of its one output are.

        Raises:
            ValueError: There are several.
        """
        if "" not in self.named:
            raise ValueError(
                f"Expected batches with one target from {self.place}. Received: targets of {list(self.named)}. Give "
                "them to tfcompress.compress in Python."
            )
        return self.named[""]

    def how(self, names: Any) -> dict[str, Any]:
        """Return how its samples are read, as `stream` takes it.

        Args:
            names: Of the classes, where targets are text; of several outputs by name.
        """
        classes = names if isinstance(names, Mapping) else {"": names}
        changes = {name: seen.as_class(classes.get(name)) for name, seen in self.named.items()}

        def changed(name: str, y: Any) -> Any:
            change = changes[name]
            return y if change is None else change(y)

        def each(x: Any, y: Any) -> tuple[Any, Any]:
            return x, changed("", y) if "" in changes else {name: changed(name, y[name]) for name in changes}

        made = each if any(changes.values()) else None
        return {"made": made, "each": self.each, "failed": lambda error: _unlike(self.place, error)}

    def split(self, names: Any) -> Stream:
        """Return its samples as a split, which is read anew for each epoch; `names` as in `how`."""
        return stream(self.samples, next(iter(self.named.values())).samples, **self.how(names))


def _unlike(place: str, error: Exception) -> ValueError:
    return ValueError(f"Expected batches like the first from {place}. Received: {told(error)}")


def _is_single(spec: Any) -> bool:
    """Return whether samples come one at a time: there is no number of them that inputs and targets have in common."""
    shapes = [one.shape for one in keras.tree.flatten(spec)]
    return any(shape.rank == 0 for shape in shapes) or len({shape[0] for shape in shapes} - {None}) > 1


def streamed(data: Any, anew: Callable[[], Any], place: str) -> Streamed:
    """Go once through arrays, or what yields batches, for their targets.

    Args:
        data: That.
        anew: Makes it once more: an iterator yields its batches only once.
        place: What was opened, for messages.
    """
    import tensorflow as tf

    _check_end(data, place)
    batches = (lambda: data) if isinstance(data, tf.data.Dataset) else _generated(data, anew, place)
    spec = batches().element_spec
    inputs = isinstance(spec, tuple) and (isinstance(spec[0], Mapping) or hasattr(spec[0], "shape"))
    targets = inputs and len(spec) == 2 and (spec[1] if isinstance(spec[1], Mapping) else {"": spec[1]})
    if not targets or not all(hasattr(one, "shape") for one in targets.values()):
        raise ValueError(
            f"Expected batches (x, y) from {place}. Received: {spec}. Return inputs and targets, as fit takes "
            "them, without weights."
        )
    single = _is_single(spec)
    counted = int(batches().cardinality()) >= 0
    seen = {name: Targets() for name in targets}
    try:
        for number, (_, y) in enumerate(batches().batch(BATCH_SIZE) if single else batches()):
            if number >= MOST_BATCHES and not counted:
                raise _endless(place, f"more than {MOST_BATCHES:,} batches")
            for name, one in seen.items():
                one.see(np.asarray(y[name] if isinstance(y, Mapping) else y))
    except tf.errors.OpError as error:
        raise _unlike(place, error) from error
    if not next(iter(seen.values())).samples:
        raise ValueError(f"Expected at least one batch from {place}. Received: none.")
    sizes = ((one.dtype.size, one.shape if single else one.shape[1:]) for one in keras.tree.flatten(spec[0]))
    each = sum(size * int(np.prod([count or 64 for count in shape])) for size, shape in sizes)
    return Streamed(place, batches if single else (lambda: batches().unbatch()), each, seen)


def _generated(data: Any, anew: Callable[[], Any], place: str) -> Callable[[], Any]:
    """Return a function that makes a `tf.data.Dataset` of the batches of arrays, or of what Python goes through."""
    import tensorflow as tf

    def fresh() -> Any:
        return anew() if isinstance(data, Iterator) else data

    one = next(iter([data] if isinstance(data, tuple) else parts(fresh())), None)
    if isinstance(one, list | tuple) and len(one) > 2 and one[2] is not None:
        raise ValueError(
            f"Expected batches (x, y) from {place}. Received: weights of samples too, which don't count in the jobs. "
            "Return inputs and targets; to train with weights, do it in Python with tfcompress.prune or "
            "tfcompress.quantize, and model.fit."
        )

    def every() -> Iterator[Any]:
        yield from pairs(fresh())

    first = next(every())
    single = any(not np.ndim(array) for array in keras.tree.flatten(first))

    def spec(array: Any) -> Any:
        shape = np.shape(array) if single else (None, *np.shape(array)[1:])
        return tf.TensorSpec(shape, "string" if np.asarray(array).dtype.kind in "SUO" else np.asarray(array).dtype)

    signature = keras.tree.map_structure(spec, first)
    return lambda: tf.data.Dataset.from_generator(every, output_signature=tuple(signature))


def _check_end(data: Any, place: str) -> None:
    """Raise ValueError if data says that it has no end, or doesn't say where it is."""
    import tensorflow as tf

    if isinstance(data, tf.data.Dataset) and int(data.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise _endless(place, "a tf.data.Dataset without an end")
    if isinstance(data, keras.utils.PyDataset) and not hasattr(data, "__len__"):
        raise _endless(place, "a PyDataset without __len__")


def _endless(place: str, what: str) -> ValueError:
    return ValueError(
        f"Expected one epoch from {place}. Received: {what}. Leave .repeat() and `while True` out: the jobs begin "
        "epochs by themselves. If it has an end, return a tf.data.Dataset with .apply(tf.data.experimental."
        "assert_cardinality(number of batches)), or a PyDataset with __len__."
    )


SOURCE = Source(
    "package.module:function, which returns data",
    lambda place: FORM.fullmatch(place) is not None and not os.path.exists(place),
    _open,
)
