"""Whether this process is the command `tfcompress`, or a program that imports the package."""

from __future__ import annotations

import pathlib
import sys

_NAMES = ("tfcompress", "tfcompress.exe", "tfcompress-script.py")
"""Of the program that an installation makes, on each system."""


def is_command() -> bool:
    """Return whether this process runs `tfcompress ...` or `python -m tfcompress ...`.

    Python says "-m" for the program's name while it looks for the module, whose name comes right before its arguments.
    """
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":
        return sys.orig_argv[-len(sys.argv)] in ("tfcompress", "-mtfcompress")
    return pathlib.Path(program).name in _NAMES
