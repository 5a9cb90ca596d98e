"""What several tests need is made once in a process, and stays what it is: a test that changes a model fails."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import keras

from tfcompress.core.transform import read

P, T = ParamSpec("P"), TypeVar("T")
SEED = 1234
"""Of every test, and of what is made once: it is the same whichever test comes first."""
_given: dict[int, tuple[str, keras.Model, str]] = {}
"""What the test that runs was given: what it is called, the model, what it holds."""


def once(make: Callable[P, T]) -> Callable[P, T]:
    """Make a function return the same object, made once, whenever it is called with the same arguments.

    Args:
        make: Returns a model, or anything that no test changes. Its arguments are hashable.
    """

    @functools.cache
    def made(*args: Any, **how: Any) -> tuple[Any, str | None]:
        keras.utils.set_random_seed(SEED)
        try:
            result = make(*args, **how)
        finally:
            keras.utils.set_random_seed(SEED)
        return result, digest(result) if isinstance(result, keras.Model) else None

    @functools.wraps(make)
    def give(*args: P.args, **how: P.kwargs) -> T:
        result, holds = made(*args, **how)
        if holds is not None:
            _given[id(result)] = (f"{make.__name__}{args}", result, holds)
        return result

    return give


def digest(model: keras.Model) -> str:
    """Return what a model's variables and layers are, as a short text."""
    found = hashlib.sha256()
    for layer in model._flatten_layers():
        found.update(f"{layer.name} {layer.trainable} {layer.dtype_policy.name}".encode())
    for variable in model.variables:
        found.update(f"{variable.path} {variable.dtype}".encode())
        found.update(read(variable).tobytes())
    return found.hexdigest()


def check_unchanged() -> None:
    """Raise if a model that was given since the last call isn't what it was."""
    changed = [name for name, model, holds in _given.values() if digest(model) != holds]
    _given.clear()
    assert not changed, f"Expected models that are made once to stay as they are. Received: {changed}, changed."
