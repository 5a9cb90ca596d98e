"""Calls in their old form: names and places of arguments that have changed go on working, with a DeprecationWarning."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from tfcompress.core.arguments import check_flag, short

_Verb = TypeVar("_Verb", bound=Callable[..., Any])
_Kind = TypeVar("_Kind", bound=type)

Place = tuple[int, str, Callable[[Any], bool] | None]
"""Of an argument: counted from 0, its name, and what tells a value that is meant for it; `None`: any value."""


def accepts_old_calls(
    names: Mapping[str, str] | None = None,
    places: tuple[Place, ...] = (),
    values: Mapping[str, tuple[Any, Any]] | None = None,
    verbs: Mapping[str, tuple[Callable[..., Any], str]] | None = None,
) -> Callable[[_Verb], _Verb]:
    """Let a function take the arguments that it took before; a DeprecationWarning says how it is called now.

    The signature and the docstring are those of the function itself.

    Args:
        names: {old name: new name}.
        places: Arguments that could be given at this place, and are now given by name.
        values: {name: (old value, new value)}.
        verbs: {name of a flag that is gone: (what is called where it is set, how that is written now)}.

    Example:

    >>> @accepts_old_calls(names={"samples": "data"}, places=((1, "threads", None),))
    ... def run(data, *, threads=1):
    ...     return data, threads
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     run(samples=[1]), run([1], 2)
    (([1], 1), ([1], 2))
    >>> print(*(warning.message for warning in caught), sep="\\n")
    Expected the argument data= of run. Received: samples=, its old name, which will go. Write data=.
    Expected threads=, by name, in the call of run. Received: 2 as argument 2, its old place, ... Write threads=2.
    """
    names, values, verbs = dict(names or {}), dict(values or {}), dict(verbs or {})
    places = tuple(sorted(places, key=lambda place: -place[0]))

    def decorate(verb: _Verb) -> _Verb:
        called = verb.__qualname__.removesuffix(".__init__")

        @functools.wraps(verb)
        def run(*args: Any, **kwargs: Any) -> Any:
            for place, name, is_meant in places:
                if len(args) > place and (is_meant is None or is_meant(args[place])) and name not in kwargs:
                    given, args = args[place], (*args[:place], *args[place + 1 :])
                    kwargs[name] = given
                    if name not in verbs:
                        _warn(
                            f"Expected {name}=, by name, in the call of {called}. Received: {short(given)} as argument "
                            f"{place + 1}, its old place, which will go. Write {name}={short(given)}."
                        )
            for old in names.keys() & kwargs.keys():
                new = names[old]
                if new in kwargs:
                    raise TypeError(f"Expected {new}= of {called} once. Received: {old}=, its old name, beside it.")
                kwargs[new] = kwargs.pop(old)
                _warn(
                    f"Expected the argument {new}= of {called}. Received: {old}=, its old name, which will go. "
                    f"Write {new}=."
                )
            for name, (old, new) in values.items():
                if name in kwargs and kwargs[name] is old:
                    kwargs[name] = new
                    _warn(
                        f"Expected {name}={new!r} in the call of {called}. Received: {name}={old!r}, its old form, "
                        f"which will go. Write {name}={new!r}."
                    )
            for name in verbs.keys() & kwargs.keys():
                instead, written = verbs[name]
                flag = check_flag(name, kwargs.pop(name))
                _warn(
                    f"Expected no argument {name}= of {called}. Received: {name}={short(flag)}, which will go. Write "
                    f"{written if flag else called + '(...)'}."
                )
                if flag:
                    return instead(*args, **kwargs)
            return verb(*args, **kwargs)

        return cast(_Verb, run)

    return decorate


def accepts_old_fields(**names: str) -> Callable[[_Kind], _Kind]:
    """Let a dataclass be made with, and give, fields and properties by the names that they had before: old=new."""

    def decorate(kind: _Kind) -> _Kind:
        fields = {field.name for field in dataclasses.fields(kind)}
        given = {old: new for old, new in names.items() if new in fields}
        if given:
            setattr(kind, "__init__", accepts_old_calls(names=given)(vars(kind)["__init__"]))  # noqa: B010
        for old, new in names.items():
            setattr(kind, old, property(functools.partial(_field, old=old, new=new)))
        return kind

    return decorate


def _field(instance: Any, *, old: str, new: str) -> Any:
    _warn(
        f"Expected the field {new} of {type(instance).__name__}. Received: {old}, its old name, which will go. Write "
        f".{new}."
    )
    return getattr(instance, new)


def drops_old_fields(**gone: Any) -> Callable[[_Kind], _Kind]:
    """Let a dataclass be made with fields that are gone, since each took one value: name=that value.

    Example:

    >>> import dataclasses
    >>> @drops_old_fields(colour="black")
    ... @dataclasses.dataclass
    ... class Car:
    ...     wheels: int = 4
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     Car(wheels=3, colour="black")
    Car(wheels=3)
    >>> print(caught[0].message)
    Expected no argument colour= of Car. Received: colour='black', the only value that it took. Leave it out.
    """

    def decorate(kind: _Kind) -> _Kind:
        init = vars(kind)["__init__"]

        @functools.wraps(init)
        def made(instance: Any, *args: Any, **kwargs: Any) -> None:
            for name in gone.keys() & kwargs.keys():
                value = kwargs.pop(name)
                expected = f"Expected no argument {name}= of {kind.__name__}. Received: {name}={short(value)}"
                if value != gone[name]:
                    raise ValueError(f"{expected}; {name}={gone[name]!r} is all there is. Leave it out.")
                _warn(f"{expected}, the only value that it took. Leave it out.")
            init(instance, *args, **kwargs)

        setattr(kind, "__init__", made)  # noqa: B010
        return kind

    return decorate


def old_attribute(module: str, names: Mapping[str, tuple[str, Any]], name: str, freed: str = "") -> Any:
    """Return what a module called `name` before: for its `__getattr__`.

    Args:
        module: Its name.
        names: {old name: (new name, what it is)}.
        name: That was asked for.
        freed: What the old name is to mean later; empty: nothing.

    Raises:
        AttributeError: It never had that.

    Example:

    >>> old_attribute("here", {"Two": ("two", 2)}, "Three")
    Traceback (most recent call last):
    ...
    AttributeError: module 'here' has no attribute 'Three'
    """
    if name not in names:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    new, found = names[name]
    _warn(
        f"Expected {module}.{new}. Received: {module}.{name}, its old name, which will "
        f"{'mean ' + freed if freed else 'go'}. Write {module}.{new}.",
        stacklevel=4,
    )
    return found


def _warn(text: str, stacklevel: int = 3) -> None:
    warnings.warn(text, DeprecationWarning, stacklevel=stacklevel)
