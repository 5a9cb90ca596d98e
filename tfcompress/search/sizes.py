"""How many bytes something may take, as people write it."""

from __future__ import annotations

import re
from typing import Any

from tfcompress.core.arguments import is_whole, short

UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
"""Bytes: kB and MB are thousands, KiB and MiB powers of 2."""


def check_size(size: Any, name: str = "size") -> int:
    """Return a number of bytes.

    Args:
        size: A whole number of bytes; or text, such as "200kB", "1.5 MB" or "64KiB".
        name: Of the argument.

    Raises:
        ValueError: It is neither, or less than a byte.

    Example:

    >>> check_size("200kB"), check_size("1.5 MiB"), check_size(4096)
    (200000, 1572864, 4096)
    """
    if is_whole(size):
        number: float = int(size)
    else:
        found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*", size) if isinstance(size, str) else None
        if found is None or found[2].lower() not in UNITS:
            raise ValueError(
                f'Expected {name} to be a number of bytes, such as 200_000, or text with a unit: "200kB", "1.5MB", '
                f'"64KiB". Received: {name}={short(size)}.'
            )
        number = float(found[1]) * UNITS[found[2].lower()]
    if number < 1:
        raise ValueError(f"Expected {name} to be at least 1 byte. Received: {name}={short(size)}.")
    return int(number)


def in_words(nbytes: float) -> str:
    """Return a number of bytes as `check_size` takes it.

    >>> in_words(96_272), in_words(1_500_000), in_words(512)
    ('96.3kB', '1.5MB', '512 bytes')
    """
    for unit, size in (("MB", 1000**2), ("kB", 1000)):
        if nbytes >= size:
            return f"{nbytes / size:.4g}{unit}" if nbytes >= 1000 * size else f"{nbytes / size:.3g}{unit}"
    return f"{int(nbytes)} bytes"
