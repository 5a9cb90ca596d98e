"""What all threads of a process share is changed by one of them at a time, and put back whatever happens."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from collections.abc import Iterator

_lock = threading.RLock()
_deep: list[int] = []


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """Let no other thread be in such a block; a thread that is in one may enter another.

    There is one lock for all purposes, so that no two threads can each wait for what the other holds.

    >>> with exclusive(), exclusive():
    ...     pass
    """
    with _lock:
        yield


@contextlib.contextmanager
def no_warnings(message: str = "") -> Iterator[None]:
    """Leave out warnings that begin with `message`, for the time of the block.

    Python keeps its filters in one list for all threads: two that put back what they found there, in the wrong
    order, would silence the process for good.

    >>> with no_warnings():
    ...     warnings.warn("said to nobody")
    """
    with exclusive(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message)
        yield


@contextlib.contextmanager
def recursion(limit: int) -> Iterator[None]:
    """Let Python recur at least as deep as `limit`, for the time of the block.

    The limit is one for all threads: it goes back when the last of them is done.

    >>> before = sys.getrecursionlimit()
    >>> with recursion(before + 1):
    ...     sys.getrecursionlimit() - before
    1
    >>> sys.getrecursionlimit() - before
    0
    """
    with exclusive():
        if not _deep:
            _deep.append(sys.getrecursionlimit())
        _deep.append(limit)
        sys.setrecursionlimit(max(_deep))
    try:
        yield
    finally:
        with exclusive():
            _deep.remove(limit)
            sys.setrecursionlimit(max(_deep))
            if len(_deep) == 1:
                _deep.clear()
