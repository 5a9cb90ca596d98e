"""What arguments are: each kind is checked, and refused, in one place."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, TypeVar

import keras
import numpy as np

from tfcompress.core.error_messages import told
from tfcompress.core.limits import MOST
from tfcompress.core.names import did_you_mean, nearest_names
from tfcompress.core.uneven_rows import is_uneven


def check_flag(name: str, value: Any) -> bool:
    """Return a flag; what is merely true in Python, as "no" is, is none.

    Raises:
        TypeError: `value` is neither True nor False.

    Example:

    >>> check_flag("unsafe", "no")
    Traceback (most recent call last):
    ...
    TypeError: Expected unsafe to be True or False. Received: unsafe='no'.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"Expected {name} to be True or False. Received: {name}={short(value)}.")
    return bool(value)


def check_flags(**values: Any) -> None:
    """Check several flags, by their names."""
    for name, value in values.items():
        check_flag(name, value)


def check_count(name: str, value: Any, least: int = 1, most: int = MOST) -> int:
    """Return a whole number, of any type, in a range.

    Raises:
        ValueError: it is none.

    Example:

    >>> check_count("threads", 2, most=4)
    2
    >>> check_count("threads", 100_000, most=256)
    Traceback (most recent call last):
    ...
    ValueError: Expected threads to be an integer of at least 1, up to 256. Received: threads=100000.
    """
    if not is_whole(value) or not least <= value <= most:
        up_to = "" if most == MOST and is_whole(value) and value < least else f", up to {most}"
        if not is_whole(value):
            up_to = ""
        raise ValueError(
            f"Expected {name} to be an integer of at least {least}{up_to}. Received: {name}={short(value)}."
        )
    return int(value)


def check_number(
    name: str, value: Any, least: float = -math.inf, most: float = math.inf, *, above: bool = False
) -> float:
    """Return a finite real number, of any type, in a range.

    Args:
        name: Of the argument.
        value: What was given.
        least: The lowest number that it may be.
        most: The highest.
        above: Whether `least` itself is too low.

    Raises:
        ValueError: it is none.
    """
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or not least <= value <= most or (above and value == least):
        low = "" if least == -math.inf else f" {'above' if above else 'of at least'} {least:g}"
        high = "" if most == math.inf else f"{',' if low else ''} up to {most:g}"
        raise ValueError(f"Expected {name} to be a number{low}{high}. Received: {name}={short(value)}.")
    return float(value)


def is_whole(value: Any) -> bool:
    """Return whether something is a whole number, of any type; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_choice(
    name: str, value: Any, allowed: Iterable[Any], others: str = "", also: Mapping[str, str] | None = None
) -> None:
    """Raise ValueError, with the nearest, unless a value is one of those allowed.

    Args:
        name: Of the argument.
        value: What was given.
        allowed: What it may be.
        others: What else it may be, in words.
        also: {what one of them is called elsewhere: its name here}.

    Example:

    >>> check_choice("criterion", "taylor", ("magnitude", "gradient"), also={"taylor": "gradient"})
    Traceback (most recent call last):
    ...
    ValueError: Expected criterion to be one of 'magnitude', 'gradient'. Received: ... Did you mean 'gradient'?
    """
    allowed = tuple(allowed)
    if not any(type(value) is type(entry) and value == entry for entry in allowed):
        raise ValueError(
            f"Expected {name} to be one of {', '.join(map(repr, allowed))}{others}. Received: {name}={short(value)}."
            f"{did_you_mean(value, allowed, also)}"
        )


def check_several(name: str, values: Any, such_as: str) -> None:
    """Raise ValueError unless a collection with an entry is given: of what is tried one after the other."""
    single = isinstance(values, str | bytes) or (isinstance(values, np.ndarray) and not values.ndim)
    if single or not isinstance(values, Sequence | Set | np.ndarray) or not len(values):
        raise ValueError(f"Expected `{name}` to be several values, such as {such_as}. Received: {short(values)}.")


def check_fields(what: str, values: Any, fields: Iterable[str], least: Iterable[str] = ()) -> dict[str, Any]:
    """Return values by the names of their fields, as `to_dict` made them.

    Args:
        what: Whose fields they are, for messages.
        values: What was given.
        fields: The names that there may be.
        least: Those that there must be.

    Raises:
        TypeError: `values` is no mapping.
        ValueError: A field has another name, or one isn't there.

    Example:

    >>> check_fields("a point", {"x": 1, "z": 2}, ("x", "y"))
    Traceback (most recent call last):
    ...
    ValueError: Expected the fields of a point: 'x', 'y'. Received: 'x', 'z'.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"Expected the fields of {what} by name, as to_dict() makes them. Received: {short(values)}.")
    fields = tuple(fields)
    if any(name not in fields for name in values) or any(name not in values for name in least):
        known, given = (", ".join(map(repr, names)) for names in (fields, values))
        hints = nearest_names(values, fields)
        raise ValueError(f"Expected the fields of {what}: {known}. Received: {given or 'none'}.{hints}")
    return dict(values)


_Kind = TypeVar("_Kind", bound=type)


def says_fields(kind: _Kind) -> _Kind:
    """Let a dataclass that is made with a name that is no field's say which are, and which is nearest.

    Example:

    >>> @says_fields
    ... @dataclasses.dataclass
    ... class Point:
    ...     left: int = 0
    ...     top: int = 0
    >>> Point(letf=1)
    Traceback (most recent call last):
    ...
    TypeError: Expected the fields of a Point: left, top. Received: letf=. Did you mean left=?
    """
    init = vars(kind)["__init__"]
    fields = [field.name for field in dataclasses.fields(kind)]

    @functools.wraps(init)
    def made(instance: Any, *args: Any, **kwargs: Any) -> None:
        check_keywords(f"a {kind.__name__}", kwargs, fields)
        init(instance, *args, **kwargs)

    setattr(kind, "__init__", made)  # noqa: B010
    return kind


def check_keywords(what: str, given: Iterable[str], fields: Sequence[str]) -> None:
    """Raise TypeError, with the nearest, unless keywords are names of fields; `what` says whose."""
    for name in given:
        if name not in fields:
            raise TypeError(
                f"Expected the fields of {what}: {', '.join(fields)}. Received: {name}=."
                f"{did_you_mean(name, fields, written='{}=')}"
            )


def check_model(model: Any, name: str = "model") -> None:
    """Raise TypeError unless something is a Keras model; say what to do with what is nearly one."""
    if isinstance(model, keras.Model):
        return
    kind = model if isinstance(model, type) else type(model)
    raise TypeError(
        f"Expected {name} to be a keras.Model (of Keras 3). Received: {kind.__module__}.{kind.__name__}. "
        f"{way_out(model)}"
    )


def way_out(model: Any) -> str:
    """Return what to do with something that isn't a Keras model, but nearly."""
    home = (model if isinstance(model, type) else type(model)).__module__
    if home.startswith(("tf_keras.", "tensorflow.python.keras.", "keras.src.engine.")) or home == "tf_keras":
        return "It is one of Keras 2: save it as .h5 (model.save('model.h5')) and take tfc.load('model.h5')."
    if isinstance(model, type) and issubclass(model, keras.Model):
        return "It is a class: make a model of it, and call that once on a batch of data."
    if isinstance(model, keras.layers.Layer):
        return "It is a layer: put it into a model, such as keras.Sequential([keras.Input(shape), layer])."
    return "Load files with tfcompress.load()."


def check_path(path: Any) -> str | os.PathLike[str]:
    """Return a path as it is given; raise TypeError unless it is one."""
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"Expected a path: a string or a pathlib.Path. Received: {short(path)}.")
    return path


def cannot_run(what: str, inputs: Any, error: BaseException) -> ValueError:
    """Return the exception for a model, or a file, that fails while it runs: an index beyond its table, a size."""
    arrays = keras.tree.flatten(inputs)
    given = ", ".join(f"{array.dtype} {tuple(array.shape)}" for array in arrays)
    if is_uneven(arrays):
        return ValueError(
            f"Expected as many samples for each input, or rows that {what} takes together, as those of the nodes and "
            f"the edges of a graph. Received: {given}, of which it says: {type(error).__name__}: {told(error)}. Look "
            "at the numbers of rows, and whether indices lie inside of them."
        )
    return ValueError(
        f"Expected inputs that {what} can be run on. Received: {given}, of which it says: {type(error).__name__}: "
        f"{told(error)}. Look at sizes, and whether indices lie inside their tables."
    )


@contextlib.contextmanager
def running(what: str, inputs: Any) -> Iterator[None]:
    """Let what a runtime says of inputs be a ValueError (see `cannot_run`)."""
    try:
        yield
    except Exception as error:
        others = isinstance(error, ValueError | RuntimeError | TypeError) and is_uneven(keras.tree.flatten(inputs))
        if of_the_runtime(error) or others:
            raise cannot_run(what, inputs, error) from error
        raise


def of_the_runtime(error: BaseException) -> bool:
    """Return whether an exception is one of the kinds that TensorFlow, LiteRT and ONNX Runtime raise for what they run.

    Lack of memory isn't meant: it says what it is.
    """
    kinds = ("tensorflow.python.framework.errors", "onnxruntime.")
    return type(error).__module__.startswith(kinds) and "ResourceExhausted" not in type(error).__name__


def short(value: Any) -> str:
    """Return how a value is written in a message: no more than a line of it.

    >>> short("a" * 200)[-9:]
    "aaaaa...'"
    """
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    text = " ".join(repr(value).split())
    return text if len(text) <= 120 else f"{text[:115]}...{text[-1]}"
