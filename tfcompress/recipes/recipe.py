"""A recipe: steps from a model to files, in their order, as a file of YAML or JSON."""

from __future__ import annotations

import importlib.resources
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from tfcompress.core.arguments import check_count, short
from tfcompress.core.names import did_you_mean, nearest_names
from tfcompress.core.plain_files import SUFFIXES, file_named, parsed, write_values
from tfcompress.recipes.order import WrongOrder, check_order
from tfcompress.recipes.steps import KINDS, Step

VERSION = 1
"""Of the form of a recipe; what is larger was written by a later version of the package."""

FORM = "a recipe: {'version': 1, 'name': ..., 'when': ..., 'seed': 0, 'steps': [{'step': 'quantize'}, ...]}"
_PATH = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Steps from a model to files, in their order; run by `tfcompress.compress`.

    Args:
        steps: Of `tfcompress.recipes`: `Prune(config=0.8)`, `Finetune(epochs=5)`, `Quantize(config="int8")`, ...
        name: What it is called.
        when: In a sentence, when to use it.
        seed: Of everything that is random.
        version: Of the form of recipes.

    Raises:
        TypeError: If a step is none.
        ValueError: If a field holds something else, or the steps can't work in their order.

    Example:

    >>> import tfcompress as tfc
    >>> recipe = tfc.Recipe.from_dict({"steps": [{"step": "quantize"}, {"step": "export", "files": ["my.tflite"]}]})
    >>> recipe.steps[0].config
    'int8'
    >>> tfc.Recipe.from_dict({"steps": [{"step": "quantise"}]})
    Traceback (most recent call last):
    ...
    ValueError: At steps[0].step: Expected one of 'load', ... Received: 'quantise'. Did you mean 'quantize'?
    """

    steps: tuple[Step, ...]
    name: str = "recipe"
    when: str = ""
    seed: int = 0
    version: int = VERSION

    def __post_init__(self) -> None:
        for field, value in (("name", self.name), ("when", self.when)):
            if not isinstance(value, str):
                raise ValueError(f"Expected {field} to be a text. Received: {short(value)}.")
        if not self.name or not re.fullmatch(r"[\w.+-]+", self.name) or set(self.name) <= {"."}:
            raise ValueError(
                f"Expected name to be of letters, digits, '_', '-', '+' and '.'. Received: name={self.name!r}."
            )
        check_count("seed", self.seed, 0, 2**32 - 1)
        _check_version(self.version)
        if not isinstance(self.steps, tuple | list):
            raise TypeError(f"Expected steps to be several steps. Received: {short(self.steps)}.")
        for place, step in enumerate(self.steps):
            if not isinstance(step, tuple(KINDS.values())):
                raise TypeError(
                    f"Expected steps of tfcompress.recipes, such as Quantize(config='int8'). Received: {short(step)} "
                    f"as steps[{place}]. Take Recipe.from_dict for what a file has."
                )
        msgspec.structs.force_setattr(self, "steps", tuple(self.steps))
        try:
            check_order(self.steps)
        except WrongOrder as error:
            raise ValueError(f"At steps[{error.place}]: {error}") from None

    @classmethod
    def from_dict(cls, values: Any) -> Recipe:
        """Return the recipe of plain values, as a file has them.

        Args:
            values: {"steps": [{"step": "prune", "config": 0.8}, ...], "name": ..., "when": ..., "seed": ...}.

        Raises:
            ValueError: If they are none: the message says where, and the nearest name.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"Expected {FORM}. Received: {short(values)}.")
        _check_version(values.get("version", VERSION))  # the fields of a later one may be others
        _check_names(values, cls.__struct_fields__, "", "a recipe", least=("steps",))
        if not isinstance(values["steps"], list | tuple):
            raise ValueError(f"At steps: Expected a list of steps. Received: {short(values['steps'])}.")
        steps = tuple(_step(f"steps[{place}]", value) for place, value in enumerate(values["steps"]))
        return cls(**{**values, "steps": steps})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON and YAML: of steps what differs from the defaults."""
        head = {"version": self.version, "name": self.name, "when": self.when, "seed": self.seed}
        return {**head, "steps": [step.to_dict() for step in self.steps]}

    @classmethod
    def read(cls, recipe: str | os.PathLike[str]) -> Recipe:
        """Return the recipe of a file, or one of the library.

        Args:
            recipe: The path of a `.yaml`, `.yml` or `.json` file, or a name of `Recipe.library()`.

        Raises:
            FileNotFoundError: If the file isn't there.
            ValueError: If there is none of that name, or the file holds something else: the message says where.

        Example:

        >>> import tfcompress as tfc
        >>> [step.called() for step in tfc.Recipe.read("int8").steps]
        ['quantize', 'export', 'report']
        """
        text = os.fspath(recipe)
        if pathlib.Path(text).suffix.lower() not in SUFFIXES and os.path.basename(text) == text:
            names = _library()
            if text not in names:
                raise ValueError(
                    f"Expected a file that ends in {', '.join(SUFFIXES)}, or one of the recipes "
                    f"{', '.join(names)}. Received: {text!r}.{did_you_mean(text, names)}"
                )
            return names[text]
        with file_named(text, "a recipe", "a recipe"):
            return cls.from_dict(parsed(text, FORM))

    @classmethod
    def library(cls) -> dict[str, Recipe]:
        """Return the recipes that have a name, by it; `.when` of each says when to use it.

        Example:

        >>> import tfcompress as tfc
        >>> "int8" in tfc.Recipe.library()
        True
        """
        return _library()

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> pathlib.Path:
        """Write it to a `.yaml`, `.yml` or `.json` file, whole or not at all, and return the path.

        Raises:
            FileExistsError: If the file is there and `overwrite` is False.
            ValueError: If the path has another suffix.
        """
        return write_values(path, self.to_dict(), overwrite)

    def replace(self, **fields: Any) -> Recipe:
        """Return the recipe with other fields, such as `seed=1`."""
        return msgspec.structs.replace(self, **fields)


def _library() -> dict[str, Recipe]:
    """Return the recipes of the package."""
    found = {}
    folder = importlib.resources.files("tfcompress.recipes") / "library"
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        if file.name.endswith(".yaml"):
            with importlib.resources.as_file(file) as path:
                recipe = Recipe.from_dict(parsed(path, FORM))
            found[recipe.name] = recipe
    return found


def _check_version(version: Any) -> None:
    check_count("version", version)
    if version > VERSION:
        raise ValueError(
            f"Expected a recipe of version {VERSION}, or an earlier one. Received: version={version}, which a later "
            "tfcompress wrote. Install that: pip install --upgrade tfcompress."
        )


def _step(at: str, value: Any) -> Step:
    """Return the step that plain values are; `at` says where they stand."""
    if isinstance(value, Step):
        return value
    if not isinstance(value, Mapping):
        raise ValueError(f"At {at}: Expected a step, such as {{'step': 'quantize'}}. Received: {short(value)}.")
    name = value.get("step")
    if not isinstance(name, str) or name not in KINDS:
        received = repr(name) if "step" in value else f"none, but {', '.join(map(repr, value))}"
        raise ValueError(
            f"At {at}.step: Expected one of {', '.join(map(repr, KINDS))}. Received: {received}."
            f"{did_you_mean(name, KINDS)}"
        )
    kind = KINDS[name]
    _check_names(value, ("step", *kind.__struct_fields__), at, f"the step {name!r}")
    try:
        return msgspec.convert(dict(value), kind)
    except msgspec.ValidationError as error:
        found = _PATH.fullmatch(str(error))
        said, where = (found[1], found[2] or "") if found else (str(error), "")
        raise ValueError(f"At {at}{where}: {said.replace(', got ', '. Received: ') if where else said}") from None


def _check_names(
    values: Mapping[Any, Any], fields: tuple[str, ...], at: str, what: str, least: tuple[str, ...] = ()
) -> None:
    """Raise ValueError unless values have names of fields; `at` says where they stand."""
    for name in values:
        if name not in fields:
            where = f"{at}.{name}" if at else str(name)
            raise ValueError(
                f"At {where}: Expected a field of {what}: {', '.join(fields)}. Received: {name!r}."
                f"{nearest_names([name], fields)}"
            )
    for name in least:
        if name not in values:
            raise ValueError(f"Expected {FORM}. Received: no {name!r}.")
