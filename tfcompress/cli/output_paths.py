"""Where programs write to: refused before any work is done, if that can't be."""

from __future__ import annotations

import math
import pathlib
from typing import Any

from tfcompress.cli.wrong_use import UsageError


def new_file(path: str, suffixes: str | tuple[str, ...], overwrite: bool, here: bool = True) -> pathlib.Path:
    """Return the path of a file that may be written; refuse others before any work is done.

    Args:
        path: What the flag says.
        suffixes: How the name may end.
        overwrite: Whether a file that is there may be replaced.
        here: Whether it is written by this process, on this machine.
    """
    from tfcompress.core.atomic_files import check_target

    target = pathlib.Path(path)
    allowed = (suffixes,) if isinstance(suffixes, str) else suffixes
    if target.suffix not in allowed:
        raise UsageError(f"Expected a file name that ends in {' or '.join(allowed)}. Received: {path}.")
    if not here:
        return target
    if not target.parent.is_dir():
        raise NotADirectoryError(f"Expected a folder that is there. Received: {path}; make {target.parent} first.")
    try:
        return check_target(target, allowed, overwrite)
    except FileExistsError:
        raise FileExistsError(
            f"Expected a new file. Received: {path}, which is there; pass --overwrite to replace it."
        ) from None


def check_size(model: Any, *paths: pathlib.Path) -> None:
    """Refuse a disk without room for what is made of a model, before it is made."""
    from tfcompress.core.atomic_files import check_room

    size = sum(math.prod(weight.shape) for weight in model.weights)
    for path in paths:
        check_room(path, size * (4 if path.suffix == ".keras" else 1))
