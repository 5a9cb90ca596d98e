"""The targets of the package, by name, and a user's own."""

from __future__ import annotations

import functools
import importlib.resources
import os
import pathlib
from collections.abc import Iterator

from tfcompress.core.arguments import short
from tfcompress.core.names import did_you_mean
from tfcompress.core.plain_files import SUFFIXES, parsed
from tfcompress.targets.target import FORM, Target


@functools.cache
def _library() -> dict[str, Target]:
    found = {}
    folder = importlib.resources.files("tfcompress.targets") / "data"
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        if file.name.endswith(".yaml"):
            with importlib.resources.as_file(file) as path:
                found.update({target.name: target for target in _targets(path)})
    return dict(sorted(found.items()))


def _targets(path: pathlib.Path) -> Iterator[Target]:
    """Yield the target of a file of the package, or one for each accelerator that it lists."""
    values = dict(parsed(path, FORM))
    accelerators = values.pop("accelerators", None)
    if accelerators is None:
        yield Target.from_dict(values)
        return
    for kind, multipliers in accelerators:
        name = f"ethos-{kind.lower()}-{multipliers}"
        about = values["about"].format(kind=kind, multipliers=multipliers)
        yield Target.from_dict({**values, "name": name, "about": about, "accelerator": name})


def names() -> tuple[str, ...]:
    """Return the names of the package's targets.

    >>> "ethos-u55-128" in names()
    True
    """
    return tuple(_library())


def get(target: str | os.PathLike[str] | Target) -> Target:
    """Return a target.

    Args:
        target: A name of `names()`, the path of a `.yaml`, `.yml` or `.json` file, or a `Target`.

    Raises:
        FileNotFoundError: If the file isn't there.
        ValueError: If there is none of that name, or the file holds something else.

    >>> get("mikrocontroller")
    Traceback (most recent call last):
    ...
    ValueError: Expected a target: one of 'android', ... Did you mean 'microcontroller'?
    """
    if isinstance(target, Target):
        return target
    if isinstance(target, str) and target in _library():
        return _library()[target]
    if isinstance(target, str | os.PathLike) and pathlib.Path(target).suffix.lower() in SUFFIXES:
        return Target.read(target)
    raise ValueError(
        f"Expected a target: one of {', '.join(map(repr, names()))}, a file that ends in {', '.join(SUFFIXES)}, or a "
        f"Target. Received: {short(target)}.{did_you_mean(target, names())}"
    )
