"""Gradients of one's own, where there are gradients at all."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

from keras import ops

_values_alone: contextvars.ContextVar[bool] = contextvars.ContextVar("values_alone", default=False)


@contextlib.contextmanager
def values_alone() -> Iterator[None]:
    """Let functions traced in the block have values and no gradients of their own.

    TensorFlow keeps what it traced of each function with a gradient of its own, and the whole graph around it, for as
    long as the process lives.
    """
    token = _values_alone.set(True)
    try:
        yield
    finally:
        _values_alone.reset(token)


def without_gradients() -> bool:
    """Return whether values alone are wanted here."""
    return _values_alone.get()


def differentiable(function: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
    """Return a function of tensors with the gradient that it gives beside its value, as `ops.custom_gradient`."""
    if _values_alone.get():
        return lambda *arguments: function(*arguments)[0]
    made: Callable[..., Any] = ops.custom_gradient(function)
    return made


def with_gradients_of(function: Callable[[], Any], value: Any) -> Any:
    """Return a value, with the gradients of a function's where there are any: straight through."""
    if _values_alone.get():
        return value
    plain = function()
    return plain + ops.stop_gradient(value - plain)
