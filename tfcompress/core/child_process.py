"""The environment of Python programs that are run in a process of their own."""

from __future__ import annotations

import os
import sys


def child_environment(**more: str) -> dict[str, str]:
    """Return the environment in which a child finds the packages that this process finds, and no others.

    Args:
        **more: Further variables.

    >>> child_environment(OPENBLAS_NUM_THREADS="1")["OPENBLAS_NUM_THREADS"]
    '1'
    """
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1", **more}
