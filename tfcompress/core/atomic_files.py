"""Files are written whole: beside their final name, synced, and moved there."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import stat
from collections.abc import Collection, Iterator

import keras

from tfcompress.core.arguments import check_flag, check_model, check_path
from tfcompress.core.layer_configs import check_configurations
from tfcompress.core.out_of_memory import says_memory
from tfcompress.core.temporary_folders import LOCK, PREFIX, locked_folder, remove_left_behind

_REPLACED = ".replaced"
_PROBE = 1 << 16


@says_memory
def save(model: keras.Model, path: str | os.PathLike[str], *, overwrite: bool = False) -> pathlib.Path:
    """Save a Keras model as `.keras`, whole or not at all.

    `model.save` writes in place: killed, or on a full disk, it leaves half a file where a whole one was. Here the file
    is written beside its final name, synced to the disk and moved into place.

    Args:
        model: any Keras model.
        path: ends in `.keras`.
        overwrite: whether an existing file may be replaced.

    Returns:
        The path.

    Raises:
        TypeError: `model` isn't a Keras model.
        ValueError: another suffix; or a layer has no configuration, and the message says why.
        FileExistsError: the file exists, and `overwrite` is False.
        FileNotFoundError, PermissionError, OSError: nothing can be written there; what was there is as it was.

    Example:
        >>> import keras, tempfile, tfcompress as tfc
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> tfc.save(model, f"{tempfile.mkdtemp()}/model.keras").name
        'model.keras'
    """
    check_model(model)
    target = check_target(path, ".keras", overwrite)
    check_configurations(model)
    with draft(target) as beside:
        model.save(beside)
    return target


def check_target(
    path: str | os.PathLike[str], suffixes: str | tuple[str, ...], overwrite: bool, size: int = _PROBE
) -> pathlib.Path:
    """Return `path` if a file can be written there; what killed programs left beside it is removed.

    Args:
        path: where a file is to be written.
        suffixes: how its name may end.
        overwrite: whether an existing file may be replaced.
        size: bytes that there must be room for.

    Raises:
        TypeError: `path` is no path.
        ValueError: another suffix, or a name that no file can have.
        FileNotFoundError, NotADirectoryError: the folder isn't there.
        FileExistsError: the file is there, and `overwrite` is False.
        IsADirectoryError: it is a folder.
        PermissionError: the folder or the file is read-only.
        OSError: the disk is full.
    """
    check_flag("overwrite", overwrite)
    target = pathlib.Path(check_path(path))
    allowed = (suffixes,) if isinstance(suffixes, str) else suffixes
    if target.suffix.lower() not in allowed:
        raise ValueError(f"Expected a path that ends in {' or '.join(allowed)}. Received: {str(target)!r}.")
    try:
        found = target.stat()
    except FileNotFoundError:
        found = None
    except NotADirectoryError:
        raise NotADirectoryError(
            f"Expected a path in a folder. Received: {str(target)!r}: {str(target.parent)!r} is a file."
        ) from None
    except PermissionError as error:
        raise PermissionError(f"Expected a folder that can be opened. Received: {str(target)!r} ({error}).") from None
    except (OSError, ValueError) as error:  # a name that is too long, a null character
        raise ValueError(f"Expected a name that a file can have. Received: {str(target)!r} ({error}).") from None
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"Expected an existing folder. Received: {str(target)!r}, whose folder {str(target.parent)!r} isn't there. "
            "Make it first."
        )
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(f"Expected the path of a file. Received: {str(target)!r}, which is a folder.")
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise ValueError(f"Expected the path of a file. Received: {str(target)!r}, which is a device or a pipe.")
    if found is not None and not overwrite:
        raise exists(target)
    if found is not None and not os.access(target, os.W_OK):
        raise PermissionError(f"Expected a file that can be replaced. Received: {str(target)!r}, which is read-only.")
    check_room(target, size)
    return target


def exists(target: pathlib.Path) -> FileExistsError:
    """Return the exception for a file that is there and may not be replaced."""
    return FileExistsError(
        f"Expected a path where nothing is. Received: {str(target)!r}, which exists. Choose another name, or pass "
        "overwrite=True to replace it."
    )


def check_room(target: pathlib.Path, size: int) -> None:
    """Raise OSError unless a file of `size` bytes can be written beside `target`, which is tried."""
    final = pathlib.Path(os.path.realpath(target))
    remove_left_behind(final.parent)
    try:
        with locked_folder(final.parent, PREFIX) as folder, open(folder / "probe", "xb") as probe:
            try:
                os.posix_fallocate(probe.fileno(), 0, max(size, 1))
            except (AttributeError, OSError) as error:  # macOS; a file system that can't
                if getattr(error, "errno", None) not in (None, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
                    raise
                probe.write(bytes(_PROBE))
    except OSError as error:
        raise _said(error, final) from error


@contextlib.contextmanager
def draft(target: pathlib.Path, replacing: Collection[str] = ()) -> Iterator[pathlib.Path]:
    """Give a path of the same name in a folder of its own beside `target`.

    What is written there, `target` and other files that belong to it, is synced and moved into `target`'s folder at the
    end; nothing is, if an exception is raised. A link stays one: what it points to is replaced.

    Args:
        target: a path in a folder that exists.
        replacing: names of files beside it that belong to the file that is there now. They are replaced too, or
            removed; a process that is killed then leaves no old file beside what belongs to the new one.

    Raises:
        OSError: it can't be written there.
    """
    final = pathlib.Path(os.path.realpath(target))
    remove_left_behind(final.parent)
    try:
        with locked_folder(final.parent, PREFIX) as folder:
            beside = folder / final.name
            yield beside
            files = [file for file in folder.iterdir() if file.name not in (LOCK, final.name)]
            for file in (*files, beside):
                _sync(file)
            with contextlib.suppress(FileNotFoundError):
                os.chmod(beside, stat.S_IMODE(final.stat().st_mode))
            if any(file.name in replacing for file in files):
                os.replace(final, folder / _REPLACED)
            try:
                for file in files:
                    os.replace(file, final.parent / file.name)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.replace(folder / _REPLACED, final)
                raise
            os.replace(beside, final)
            for name in set(replacing) - {file.name for file in files}:
                (final.parent / name).unlink(missing_ok=True)
            _sync(final.parent)
    except OSError as error:
        raise _said(error, final) from error


def write_text(target: pathlib.Path, text: str) -> pathlib.Path:
    """Write text as `write_bytes` does, in UTF-8."""
    return write_bytes(target, text.encode())


def write_bytes(target: pathlib.Path, content: bytes) -> pathlib.Path:
    """Write beside `target` and move into place: there is never half a file."""
    with draft(target) as beside:
        beside.write_bytes(content)
    return target


def _sync(path: pathlib.Path) -> None:
    """Wait until the disk has a file, or the names in a folder; where a file system can't, go on."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
    try:
        handle = os.open(path, flags)
    except (PermissionError, IsADirectoryError):  # a folder on Windows, a file made read-only
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(handle)


def _said(error: OSError, final: pathlib.Path) -> OSError:
    """Return an error of the disk in words that say what to do; others as they are."""
    full = {
        errno.ENOSPC: "Expected room on the disk. Received: {} is to be written to a full one. Free some space",
        errno.EDQUOT: "Expected room on the disk. Received: {}, for which the quota is used up. Free some space",
        errno.EFBIG: "Expected room for the file. Received: {} would be larger than this process may write",
    }
    closed = {
        errno.EROFS: "Expected a folder that can be written to. Received: {} is on a read-only disk",
        errno.EACCES: "Expected a folder that can be written to. Received: {}, whose folder is read-only",
        errno.EPERM: "Expected a folder that can be written to. Received: {}, whose folder is read-only",
    }
    here = str(error.filename or "").startswith(str(final.parent))
    if PREFIX in str(error.filename or ""):  # a folder of ours, which only the system can refuse
        closed[errno.ENOENT] = "Expected a folder that can be written to. Received: {}, whose folder takes no new files"
    message = full.get(error.errno or 0) or (closed.get(error.errno or 0) if here else None)
    if message is None or str(error).startswith("Expected"):
        return error
    said = type(error)(message.format(repr(str(final))) + f" ({os.strerror(error.errno or 0)}).")
    said.errno = error.errno
    return said
