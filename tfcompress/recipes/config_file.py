"""Files of JSON and YAML, and in them a config for each layer: what `--config` takes, and what recipes are."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from tfcompress.core.arguments import short
from tfcompress.core.atomic_files import check_target, write_text
from tfcompress.core.names import nearest_names
from tfcompress.graph.config_map import LayerConfigs

SUFFIXES = (".json", ".yaml", ".yml")

FORM = "a mapping from names or regular expressions of layers to configs"

Read = Callable[[Any], Any]
"""Makes a job's config of a value in a file; it isn't asked for null."""


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


def layer_configs(path: str | os.PathLike[str], read: Read) -> LayerConfigs:
    """Return the configs of a file.

    Args:
        path: A `.json`, `.yaml` or `.yml` file: {name or regular expression: config or null}, or what
            `LayerConfigs.to_dict` makes.
        read: Makes a config of a value.

    Raises:
        FileNotFoundError: If it isn't there.
        ValueError: If it is none; the message names the file, the key and the field.
    """
    with file_named(path, "configs", "a --config"):
        return configs_of(parsed(path, FORM), read)


def sections(path: str | os.PathLike[str], reads: Mapping[str, Read]) -> dict[str, LayerConfigs]:
    """Return the configs of a file for several jobs: {the job's name: what `layer_configs` takes}.

    Args:
        path: The file.
        reads: What makes a config of a value, by the names of the sections; the file has one of them at least.

    Raises:
        FileNotFoundError: If it isn't there.
        ValueError: If it is none; the message names the file, the section, the key and the field.
    """
    made = {}
    with file_named(path, "configs", "a --config"):
        form = f"the sections {' and '.join(map(repr, reads))}, or one of them, each {FORM}"
        found = parsed(path, form)
        if not found or not set(found) <= set(reads):
            raise ValueError(f"Expected {form}. Received: {short(list(found))}.{nearest_names(found, reads)}")
        for name, part in found.items():
            try:
                made[name] = configs_of(part, reads[name])
            except (TypeError, ValueError) as error:
                raise ValueError(f"in {name!r}: {error}") from error
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


def configs_of(found: Any, read: Read) -> LayerConfigs:
    """Return the configs of a mapping, as a file has it or `LayerConfigs.to_dict` makes it.

    Args:
        found: The mapping.
        read: Makes a config of a value.

    Raises:
        ValueError: If it is none; the message names the key and the field.
    """
    if not isinstance(found, Mapping):
        raise ValueError(f"Expected {FORM}. Received: {short(found)}.")
    given = LayerConfigs.from_dict(found, _Plain) if _is_stored(found) else LayerConfigs(_with_names(found))
    return LayerConfigs({key: _read(read, key, value) for key, value in given.configs.items()})


class _Plain:
    """Leaves a stored config as it is, until a job reads it."""

    @staticmethod
    def from_dict(values: Any) -> Any:
        return values


def _is_stored(found: Mapping[Any, Any]) -> bool:
    return set(found) == {"layers"} and isinstance(found["layers"], list)


def _with_names(found: Mapping[Any, Any]) -> Mapping[Any, Any]:
    for key in found:
        if not isinstance(key, str):
            raise ValueError(f"Expected {FORM}. Received: {key!r} as a name. Write it in quotes.")
    return found


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


def _read(read: Read, key: Any, value: Any) -> Any:
    if value is None:
        return None
    try:
        return read(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"for {key!r}: {error}") from error
