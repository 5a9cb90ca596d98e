"""Tables as plain text, and files that are written whole or not at all."""

from __future__ import annotations

import io
import math
import os
import pathlib
import tempfile
from typing import Any

WIDTH = 100


def to_text(*parts: Any, width: int = WIDTH) -> str:
    """Return what rich makes of `parts`, without colours or trailing blanks.

    >>> to_text("a", "b")
    'a\\nb'
    """
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False, markup=False, emoji=False)
    console.print(*parts, sep="\n")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines()).rstrip("\n")


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """Return a number with `digits` behind the point; a dash for what isn't known.

    >>> number(0.98765), number(None), number(0.5, 1, sign=True)
    ('0.988', '-', '+0.5')
    """
    if value is None or math.isnan(value):
        return "-"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def significant(value: float | None) -> str:
    """Return a number with four significant digits; a dash for what isn't known.

    >>> significant(0.000123456), significant(1234567.0)
    ('0.0001235', '1.235e+06')
    """
    return "-" if value is None or math.isnan(value) else f"{value:.4g}"


def plain(value: Any) -> Any:
    """Return `value` as JSON takes it: lists, ints, floats; NaN becomes None.

    >>> import numpy as np
    >>> plain({"auc": np.float32("nan"), "matrix": np.eye(2, dtype=int)})
    {'auc': None, 'matrix': [[1, 0], [0, 1]]}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def check_target(path: str | os.PathLike[str], suffix: str, overwrite: bool) -> pathlib.Path:
    """Return `path` if a file can be written there.

    Raises:
        ValueError: the suffix isn't `suffix`.
        FileNotFoundError: the folder isn't there.
        FileExistsError: the file is there, and `overwrite` is False.
    """
    target = pathlib.Path(path)
    if target.suffix.lower() != suffix:
        raise ValueError(f"Expected a path that ends in {suffix}. Received: {str(target)!r}.")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Expected an existing folder. Received: {str(target.parent)!r}. Make it first.")
    if target.is_dir() or (target.exists() and not overwrite):
        hint = "It is a folder." if target.is_dir() else "Choose another name, or pass overwrite=True."
        raise FileExistsError(f"Expected a path that is free. Received: {str(target)!r}, which exists. {hint}")
    return target


def write_text(target: pathlib.Path, text: str) -> pathlib.Path:
    """Write text as `write_bytes` does, in UTF-8."""
    return write_bytes(target, text.encode())


def write_bytes(target: pathlib.Path, content: bytes) -> pathlib.Path:
    """Write beside `target` and move into place: there is never half a file."""
    handle, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(beside, 0o666 & ~umask)  # mkstemp makes it readable by its owner alone
        os.replace(beside, target)
    except BaseException:
        pathlib.Path(beside).unlink(missing_ok=True)
        raise
    return target
