"""A file with a config for each layer, JSON or YAML: what `--config` takes."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from tfcompress.core.arguments import short
from tfcompress.graph.config_map import LayerConfigs

SUFFIXES = (".json", ".yaml", ".yml")

FORM = "a mapping from names or regular expressions of layers to configs"


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


def layer_configs(path: str | os.PathLike[str], read: Callable[[Any], Any]) -> LayerConfigs:
    """Return the configs of a file.

    Args:
        path: A `.json`, `.yaml` or `.yml` file: {name or regular expression: config or null}, or what
            `LayerConfigs.to_dict` makes.
        read: Makes a job's config of a value; it isn't asked for null.

    Raises:
        FileNotFoundError: If it isn't there.
        ValueError: If it is none; the message names the file, the key and the field.
    """
    file = pathlib.Path(path)
    if file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"Expected a --config that ends in {', '.join(SUFFIXES)}. Received: {os.fspath(path)}.")
    if not file.is_file():
        raise FileNotFoundError(f"Expected a file with configs. Received: {os.fspath(path)}, which isn't there.")
    try:
        found = _parsed(file)
        if not isinstance(found, Mapping):
            raise ValueError(f"Expected {FORM}. Received: {short(found)}.")
        given = LayerConfigs.from_dict(found, _Plain) if _is_stored(found) else LayerConfigs(_with_names(found))
        return LayerConfigs({key: _read(read, key, value) for key, value in given.configs.items()})
    except (TypeError, ValueError) as error:
        raise ValueError(f"In {os.fspath(path)}: {error}") from error


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


def _parsed(file: pathlib.Path) -> Any:
    text = file.read_text()
    try:
        if file.suffix.lower() == ".json":
            return json.loads(text, object_pairs_hook=_once)
        return yaml.load(text, _Loader)  # of plain values alone, as SafeLoader
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"Expected {FORM}. Received: what can't be read: {' '.join(str(error).split())}.") from error


def _read(read: Callable[[Any], Any], key: Any, value: Any) -> Any:
    if value is None:
        return None
    try:
        return read(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"for {key!r}: {error}") from error
