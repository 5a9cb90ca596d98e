"""What the user of a verb says about a model's inputs: their shapes and dtypes."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import keras

from tfcompress.core.arguments import short
from tfcompress.core.names import nearest_names
from tfcompress.core.out_of_memory import memory_said

Shape = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Given:
    """Shapes and dtypes, each in the structure in which they were given; `None`: not given."""

    shapes: Any = None
    dtypes: Any = None


_NOTHING = Given()
_GIVEN: contextvars.ContextVar[Given] = contextvars.ContextVar("given", default=_NOTHING)


@contextlib.contextmanager
def inputs_given(shapes: Any = None, dtypes: Any = None) -> Iterator[None]:
    """Let all that tries the model in the block, in this thread, know the shapes and dtypes of its inputs.

    Args:
        shapes: A shape (one input), a list of shapes in the order of the inputs, or a dict by their names; with the
            batch (`None` or a number) or without. `None`: what an enclosing block says.
        dtypes: A dtype for all inputs, a list or a dict of them, likewise.

    Raises:
        ValueError: If a size is no whole number of at least 1, or a dtype isn't known.
    """
    for shape in _leaves(shapes):
        if not all(
            size is None or (isinstance(size, int) and not isinstance(size, bool) and size > 0) for size in shape
        ):
            raise ValueError(
                "Expected input_shapes to hold whole numbers of at least 1, or None for the batch. Received: "
                f"input_shapes={shapes!r}."
            )
    if dtypes is not None:
        _check_dtypes(dtypes)
    before = _GIVEN.get()
    token = _GIVEN.set(Given(before.shapes if shapes is None else shapes, before.dtypes if dtypes is None else dtypes))
    try:
        yield
    finally:
        _GIVEN.reset(token)


_Verb = TypeVar("_Verb", bound=Callable[..., Any])


def takes_inputs(verb: _Verb) -> _Verb:
    """Let a verb with the keyword arguments `input_shapes` and `input_dtypes` run in `inputs_given` of these."""

    @functools.wraps(verb)
    def run(*args: Any, **kwargs: Any) -> Any:
        with memory_said(verb.__name__), inputs_given(kwargs.get("input_shapes"), kwargs.get("input_dtypes")):
            return verb(*args, **kwargs)

    return cast(_Verb, run)


def given_shapes(names: Sequence[str], shapes: Sequence[Shape]) -> list[Shape]:
    """Return shapes with the free sizes that the user gave; what doesn't fit is left as it is.

    >>> with inputs_given({"x": (64, 3)}):
    ...     given_shapes(["x", "y"], [(None, None, 3), (None, 2)])
    [(None, 64, 3), (None, 2)]
    """
    found = _by_name(_GIVEN.get().shapes, names, _is_shape)
    return [
        _filled(shape, found[name]) if name in found else tuple(shape)
        for name, shape in zip(names, shapes, strict=True)
    ]


def given_dtypes(names: Sequence[str]) -> dict[str, str]:
    """Return the dtypes that the user gave, by name.

    >>> with inputs_given(dtypes="int32"):
    ...     given_dtypes(["a", "b"])
    {'a': 'int32', 'b': 'int32'}
    """
    dtypes = _GIVEN.get().dtypes
    if dtypes is not None and _is_dtype(dtypes):
        return dict.fromkeys(names, keras.backend.standardize_dtype(dtypes))
    found = _by_name(dtypes, names, _is_dtype)
    return {name: keras.backend.standardize_dtype(dtype) for name, dtype in found.items()}


def whole_structure() -> Any:
    """Return the shapes that the user gave, as given; `None`: none."""
    return _GIVEN.get().shapes


def check_given(names: Sequence[str], shapes: Sequence[Shape], dtypes: Sequence[str] | None = None) -> None:
    """Raise ValueError if the user gave shapes or dtypes for other inputs than these.

    Args:
        names: Of the inputs.
        shapes: Their shapes, `None` for each size that is free.
        dtypes: Their dtypes, where the model itself says them.
    """
    given = _GIVEN.get()
    for argument, value, is_leaf in (
        ("input_shapes", given.shapes, _is_shape),
        ("input_dtypes", given.dtypes, _is_dtype),
    ):
        if value is None or (argument == "input_dtypes" and _is_dtype(value)):
            continue
        found = _by_name(value, names, is_leaf)
        count = 1 if is_leaf(value) else len(value)
        if len(found) != count:
            raise ValueError(
                f"Expected {argument} for the inputs {list(names)}: one for a single input, a list in their order or "
                f"a dict by name. Received: {argument}={value!r}."
                f"{nearest_names(value, names) if isinstance(value, Mapping) else ''}"
            )
        if argument == "input_shapes":
            for name, shape in zip(names, shapes, strict=True):
                if name in found and _filled(shape, found[name]) == tuple(shape) and not _fits(shape, found[name]):
                    raise ValueError(
                        f"Expected input_shapes that fit input {name!r}, of shape {tuple(shape)}. Received: "
                        f"{found[name]}."
                    )

    for name, dtype in zip(names, dtypes or (), strict=False):
        said = given_dtypes(names).get(name, dtype)
        if said != dtype:
            raise ValueError(
                f"Expected input_dtypes that fit input {name!r}, which the model says is {dtype}. Received: {said}. "
                "They are for models that don't say it."
            )


def _is_shape(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(size is None or isinstance(size, int) for size in value)


def _is_dtype(value: Any) -> bool:
    return not isinstance(value, list | tuple | Mapping)


def _leaves(value: Any) -> list[Any]:
    if value is None:
        return []
    if _is_shape(value):
        return [value]
    if isinstance(value, list | tuple | Mapping):
        parts = list(value.values() if isinstance(value, Mapping) else value)
        if all(part is not None for part in parts):
            return [leaf for part in parts for leaf in _leaves(part)]
    raise ValueError(
        "Expected input_shapes to be a shape, a list of shapes or a dict of them by input name. Received: "
        f"input_shapes={short(value)}."
    )


def _check_dtypes(dtypes: Any) -> None:
    parts = [dtypes] if _is_dtype(dtypes) else list(dtypes.values() if isinstance(dtypes, Mapping) else dtypes)
    for part in parts:
        wrong = ValueError(
            f"Expected input_dtypes to be dtypes such as 'int32'. Received: input_dtypes={short(dtypes)}."
        )
        if part is None:
            raise wrong
        try:
            keras.backend.standardize_dtype(part)
        except Exception as error:
            raise wrong from error


def _by_name(value: Any, names: Sequence[str], is_leaf: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if is_leaf(value):
        return {names[0]: value} if len(names) == 1 else {}
    if isinstance(value, Mapping):
        return {name: value[name] for name in names if name in value}
    return dict(zip(names, value, strict=True)) if len(value) == len(names) else {}


def _fits(shape: Shape, given: Sequence[int | None]) -> bool:
    rest = tuple(given[1:]) if len(given) == len(shape) else tuple(given)
    return len(rest) == len(shape) - 1 and all(
        own is None or size is None or own == size for own, size in zip(shape[1:], rest, strict=True)
    )


def _filled(shape: Shape, given: Sequence[int | None]) -> Shape:
    if not shape or not _fits(shape, given):
        return tuple(shape)
    batch, *rest = given if len(given) == len(shape) else (None, *given)
    sizes = (size if own is None else own for own, size in zip(shape[1:], rest, strict=True))
    return (shape[0] if shape[0] is not None else batch, *sizes)
