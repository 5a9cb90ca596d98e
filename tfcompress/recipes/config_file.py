"""Files with a config for each layer, as `--config` takes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from tfcompress.core.arguments import short
from tfcompress.core.names import nearest_names
from tfcompress.core.plain_files import file_named, parsed
from tfcompress.graph.config_map import LayerConfigs

FORM = "a mapping from names or regular expressions of layers to configs"

Read = Callable[[Any], Any]
"""Makes a job's config of a value in a file; it isn't asked for null."""


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


def _read(read: Read, key: Any, value: Any) -> Any:
    if value is None:
        return None
    try:
        return read(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"for {key!r}: {error}") from error
