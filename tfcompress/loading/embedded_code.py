"""Find the Python code that a model file would run."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any


def refuse_code(config: Any, file: pathlib.Path, unsafe: bool) -> None:
    """Refuse a configuration that holds Python code, before anything reads it.

    Args:
        config: of a model, as JSON gave it, of Keras 2 or 3.
        file: for the message.
        unsafe: whether code may be run.

    Raises:
        ValueError: there is code, and `unsafe` is False; the layers are named.
    """
    names = sorted(set(code_in(config)))
    if names and not unsafe:
        raise ValueError(
            f"Expected a file without Python code. Received: {str(file)!r}, where "
            f"{', '.join(map(repr, names))} would run code from the file. If you trust its author, pass "
            "unsafe=True; better, replace the Lambda by a registered layer where the model is made."
        )


def code_in(config: Any, owner: str = "") -> Iterator[str]:
    """Give the name of each layer that holds serialized Python code.

    >>> twice = {"class_name": "Lambda", "config": {"name": "twice", "function": ["4wEAAAA=", None, None]}}
    >>> list(code_in({"class_name": "Sequential", "config": {"name": "model", "layers": [twice]}}))
    ['twice']
    """
    if isinstance(config, list):
        for entry in config:
            yield from code_in(entry, owner)
    if not isinstance(config, Mapping):
        return
    inner = config.get("config")
    if isinstance(inner, Mapping) and isinstance(inner.get("name"), str):
        owner = inner["name"]
    if config.get("class_name") == "__lambda__":
        yield owner
    elif config.get("class_name") == "Lambda" and isinstance(inner, Mapping):
        # Keras 2 keeps the code as a list, and says so in "<argument>_type"; a named function is a string.
        arguments = ("function", "output_shape", "mask")
        if any(inner.get(f"{key}_type") == "lambda" for key in arguments) or isinstance(inner.get("function"), list):
            yield owner
    for value in config.values():
        yield from code_in(value, owner)
