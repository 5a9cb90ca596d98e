"""Out of memory, said as that, whatever the library that ran out of it raises."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import gc
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

SIGNS = (
    "std::bad_alloc",
    "bad allocation",
    "Unable to allocate",
    "Cannot allocate memory",
    "Failed to allocate memory",
)
"""In the messages of ONNX Runtime, NumPy, and of what is below them."""


LARGE = 1 << 24
"""Bytes of weights from which on it pays to give memory back between two steps."""


def give_back(nbytes: int, cycles: bool = True) -> None:
    """Give memory that isn't used any more back to the system, where the weights are large.

    glibc, which keeps what is freed for what may come, is told that nothing comes. Elsewhere that isn't done.

    Args:
        nbytes: Of the weights that were worked on.
        cycles: Whether copies that only cycles of references keep are freed first. To find them takes long where the
            process has many objects.
    """
    if nbytes < LARGE:
        return
    if cycles:
        gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another system, or another library for memory
        ctypes.CDLL(None).malloc_trim(0)


def out_of_memory(error: BaseException | None) -> bool:
    """Return whether an exception, or what it came from, says that memory ran out.

    >>> out_of_memory(RuntimeError("std::bad_alloc")), out_of_memory(ValueError("no such layer"))
    (True, False)
    >>> error = ValueError("no such layer")
    >>> error.__cause__ = error
    >>> out_of_memory(error)
    False
    """
    seen: list[BaseException] = []
    while error is not None and not any(error is other for other in seen):  # an error may come from itself
        seen.append(error)
        kind, text = type(error).__name__, str(error)
        full = isinstance(error, OSError) and error.errno == errno.ENOMEM
        if isinstance(error, MemoryError) or kind == "ResourceExhaustedError" or full:
            return True
        if any(sign in text for sign in SIGNS):
            return True
        error = error.__cause__ or error.__context__
    return False


def pass_on_full(error: BaseException) -> None:
    """Raise an exception again if it says that memory ran out, where others are taken for an answer."""
    if out_of_memory(error):
        raise error


def memory_error(doing: str, error: BaseException) -> MemoryError:
    """Return the exception for memory that ran out.

    Args:
        doing: What was done, "load 'm.keras'".
        error: What was raised.
    """
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return MemoryError(
        f"Expected enough memory to {doing}. Received: out of memory ({said}). Free some, or do it on a machine that "
        "has more: it takes several times the bytes of the weights."
    )


_Verb = TypeVar("_Verb", bound=Callable[..., Any])


def says_memory(verb: _Verb) -> _Verb:
    """Let a verb that runs out of memory say so, whatever what is below it makes of that.

    >>> @says_memory
    ... def grow():
    ...     raise ValueError("Expected another model.") from RuntimeError("std::bad_alloc")
    >>> grow()
    Traceback (most recent call last):
    MemoryError: Expected enough memory to run grow. Received: out of memory (Expected another model.). ...
    """

    @functools.wraps(verb)
    def run(*args: Any, **kwargs: Any) -> Any:
        with memory_said(verb.__name__):
            return verb(*args, **kwargs)

    return cast(_Verb, run)


@contextlib.contextmanager
def memory_said(name: str) -> Iterator[None]:
    """Raise what memory that runs out makes others raise as MemoryError; `name` is that of the verb."""
    try:
        yield
    except Exception as error:
        said = isinstance(error, MemoryError) and str(error).startswith("Expected")
        if said or not out_of_memory(error):
            raise
        raise memory_error(f"run {name}", error) from error
