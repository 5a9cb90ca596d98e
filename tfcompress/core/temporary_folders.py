"""Folders that are removed at the end, by a later process if this one is killed before."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = ".tfcompress-draft-"
"""Begins the name of every folder in which a file is written before it gets its final name."""

LOCK = ".lock"
_OLD = 24 * 3600.0
"""Seconds after which a draft is taken for left behind, where a file system knows no locks."""

_guard = threading.RLock()
_open: set[pathlib.Path] = set()


@contextlib.contextmanager
def temporary_folder() -> Iterator[None]:
    """Let all temporary files of this process be in one folder, which is removed at the end, or by a later process."""
    before, of_libraries = tempfile.tempdir, os.environ.get("TMPDIR")
    parent = pathlib.Path(tempfile.gettempdir())
    remove_left_behind(parent)
    with locked_folder(parent, PREFIX) as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)  # the second is for libraries in C++
        try:
            yield
        finally:
            tempfile.tempdir = before
            os.environ.pop("TMPDIR")
            os.environ.update({} if of_libraries is None else {"TMPDIR": of_libraries})


@contextlib.contextmanager
def locked_folder(parent: pathlib.Path, prefix: str) -> Iterator[pathlib.Path]:
    """Make a folder that is removed at the end, and known as left behind if this process is killed before."""
    folder, handle = _make(parent, prefix)
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(handle)
        _open.discard(folder)


def remove_left_behind(parent: pathlib.Path, prefix: str = PREFIX) -> None:
    """Remove the folders that processes made with `locked_folder` and, being killed, did not remove."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    folder = pathlib.Path(entry.path)
                    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
                    try:
                        if _lock(handle, unknown=time.time() - folder.stat().st_mtime > _OLD):
                            _remove(folder)
                    finally:
                        os.close(handle)


def abandon() -> None:
    """Remove all folders of `locked_folder`; this process makes no new ones, and is to end at once."""
    _guard.acquire()  # and never released
    for _ in range(10):  # another thread may still be writing
        for folder in list(_open):
            _remove(folder)
        if not any(folder.exists() for folder in _open):
            return
        time.sleep(0.01)


def _make(parent: pathlib.Path, prefix: str) -> tuple[pathlib.Path, int]:
    for _ in range(100):
        with _guard:
            folder = parent / f"{prefix}{uuid.uuid4().hex[:12]}"
            os.mkdir(folder, 0o700)
            _open.add(folder)
        try:
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # taken for left behind, between these two lines
            _open.discard(folder)
            continue
        except BaseException:
            _remove(folder)
            _open.discard(folder)
            raise
        if _lock(handle, unknown=True) and (folder / LOCK).exists():
            return folder, handle
        os.close(handle)
        _open.discard(folder)
    raise OSError(f"Expected a folder in which a folder can be made. Received: {str(parent)!r}.")


def _lock(handle: int, unknown: bool) -> bool:
    """Return whether nobody else holds the lock of a folder; `unknown` where there are no locks."""
    if fcntl is None:
        return unknown
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return unknown
    return True


def _remove(folder: pathlib.Path) -> None:
    # The lock goes last: a folder without one could be taken for new.
    with contextlib.suppress(OSError):
        for entry in list(folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != LOCK:
                entry.unlink()
    shutil.rmtree(folder, ignore_errors=True)
