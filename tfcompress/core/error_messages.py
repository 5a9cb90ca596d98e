"""What other libraries' errors say, in one line; and where in the user's code a warning is from."""

from __future__ import annotations

import inspect
import re

MOST = 300
"""Characters of a line; of a longer one the middle is left out."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(
    r"Exception encountered when calling|Arguments received by|Traceback \(most|During handling|The above exception|"
    r"File \"|[•^*~]|in user code:|Detected at node|Node: |\d+ root error|<unknown>:0: note:|"
    r"Graph execution error|Stack trace|A total of \d+ objects could not|List of objects that"
)
"""How lines begin that say where something went wrong, or with what, and not what it was."""

_CAUSE = re.compile(r"(?:Error|Exception) encountered: ?")
"""What stands before the error that another one is raised for."""

_PLACE = re.compile(
    r"^<unknown>:0: error: loc\(.*\)\): |^<unknown>:0: error: |^\{\{function_node [^}]*\}\} | \[Op:\w+\].*$"
)
"""Where MLIR and TensorFlow say that it was, before and behind what they say it was."""

_VALUE = re.compile(r", value=\[.*")
"""The numbers of a Keras variable behind its path and shape."""


def told(error: BaseException | str) -> str:
    """Return the line of an error's message that says what went wrong.

    Args:
        error: Of any library, or its message.

    >>> told(ValueError("Exception encountered when calling Net.call().\\n\\n\\x1b[1mshapes differ\\x1b[0m"))
    'shapes differ'
    >>> told("{{function_node f}} Feature: x is required [Op:IteratorGetNext] name:")
    'Feature: x is required'
    >>> told(RuntimeError(""))
    'RuntimeError'
    """
    text = _CAUSE.split(_COLOUR.sub("", str(error)))[-1]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if not _FRAME.match(line)]
    if not lines:
        return type(error).__name__
    line = _VALUE.sub(">", _PLACE.sub("", (said or lines)[0]))
    return line if len(line) <= MOST else f"{line[: MOST // 2]} ... {line[-MOST // 2 :]}"


def user_level() -> int:
    """Return the `stacklevel` with which a warning of the calling function names the line outside of this package."""
    frame = inspect.currentframe()
    frame = frame.f_back if frame is not None else None
    level = 1
    while frame is not None and frame.f_globals.get("__name__", "").startswith(f"{__package__.partition('.')[0]}."):
        frame, level = frame.f_back, level + 1
    return level
