"""Files of JSON and YAML that hold plain values: configs, recipes, targets."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tfcompress.core.arguments import short
from tfcompress.core.atomic_files import check_target, write_text

SUFFIXES = (".json", ".yaml", ".yml")


class _Loader(yaml.SafeLoader):
    """YAML, in which a key stands once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        return _once([[self.construct_object(one, deep) for one in pair] for pair in node.value])


def _once(pairs: Any) -> dict[Any, Any]:
    """Return a mapping of pairs; refuse a key that is there twice, of which a parser would take the last."""
    made: dict[Any, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"Expected each key once. Received: {key!r} twice.")
        made[key] = value
    return made


@contextlib.contextmanager
def file_named(path: str | os.PathLike[str], holds: str, called: str) -> Iterator[None]:
    """Let what is wrong with a file say which; refuse what is none.

    Args:
        path: The file.
        holds: What is in it, for messages.
        called: What it is called.
    """
    file = pathlib.Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"Expected {called} that ends in {', '.join(SUFFIXES)}. Received: {os.fspath(path)}.")
    if not file.is_file():
        raise FileNotFoundError(f"Expected a file with {holds}. Received: {os.fspath(path)}, which isn't there.")
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"In {os.fspath(path)}: {error}") from error


def parsed(path: str | os.PathLike[str], form: str) -> Mapping[Any, Any]:
    """Return the mapping that a file has, in which no key stands twice; `form` says what is expected of it."""
    file = pathlib.Path(path)
    text = file.read_text()
    try:
        if file.suffix.lower() == ".json":
            found = json.loads(text, object_pairs_hook=_once)
        else:
            found = yaml.load(text, _Loader)  # of plain values alone, as SafeLoader
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"Expected {form}. Received: what can't be read: {' '.join(str(error).split())}.") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"Expected {form}. Received: {short(found)}.")
    return found


def write_values(path: str | os.PathLike[str], values: Mapping[str, Any], overwrite: bool) -> pathlib.Path:
    """Write values to a `.yaml`, `.yml` or `.json` file, whole or not at all, and return the path.

    Raises:
        FileExistsError: If the file is there and `overwrite` is False.
        ValueError: If the path has another suffix.
    """
    target = check_target(path, SUFFIXES, overwrite)
    if target.suffix.lower() == ".json":
        return write_text(target, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    return write_text(target, yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))
