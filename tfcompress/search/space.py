"""A search space: a recipe in which some fields are choices or ranges."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tfcompress.core.arguments import is_whole, short
from tfcompress.core.names import nearest_names
from tfcompress.core.plain_files import file_named, parsed, write_values
from tfcompress.recipes.order import target_of
from tfcompress.recipes.recipe import Recipe
from tfcompress.targets import Target

FORM = "a recipe in which fields may be {choice: [4, 8]}, {low: 0.5, high: 0.9} or {low: 1, high: 9, step: 2}"

RANGE = ("low", "high", "step", "log")

MOST = 2000
"""Combinations that are checked one by one; of more, all pairs of values."""

_FILES = (".tflite", ".onnx")


@dataclasses.dataclass(frozen=True)
class Parameter:
    """What a search varies.

    Attributes:
        name: of its place in the recipe, as "prune.config.sparsity".
        options: of a choice; values, of which some may be parts of a recipe with parameters of their own.
        labels: what stands for each option in a study: itself, or its text where it is no plain value.
        low: of a range.
        high: of a range, which it reaches.
        step: of a range of few values; whole numbers have one of 1.
        log: whether a range is spread evenly over its logarithm.
    """

    name: str
    options: tuple[Any, ...] = ()
    labels: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False

    def values(self, most: int = MOST) -> list[Any] | None:
        """Return all values, of a choice their labels; `None`: they aren't finite, or more than `most`."""
        if self.options:
            return list(self.labels)
        if self.step is None or (self.high - self.low) / self.step >= most:
            return None
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return [self.low + place * self.step for place in range(count)]

    def ends(self) -> list[Any]:
        """Return the values that stand for all where recipes are checked."""
        return list(self.labels) if self.options else [self.low, self.high]

    def option(self, label: Any) -> Any:
        """Return the option that a label stands for."""
        return self.options[next(place for place, one in enumerate(self.labels) if _same(one, label))]


Ask = Callable[[Parameter], Any]
"""Returns a value of a parameter, of a choice the label of an option."""


class SearchSpace:
    """A recipe in which some fields are choices or ranges, for `tfcompress.search`.

    In a file, or in a dict, a field may be `{choice: [4, 8]}`; `{low: 0.5, high: 0.9}`, a range of numbers,
    of whole ones if both are, evenly over its logarithm with `log: true`; or `{low: 1, high: 9, step: 2}`. A step may
    be a choice of steps, of which null leaves it out; options may have choices and ranges in them.

    Args:
        values: of the recipe.

    Raises:
        ValueError: If a combination makes no recipe that exports a `.tflite` or `.onnx` file: the message says which.
            Of more than 2,000 combinations, all pairs of values are tried; of ranges the ends stand for all values.

    Example:

    >>> import tfcompress as tfc
    >>> space = tfc.SearchSpace(
    ...     {"steps": [{"step": "quantize", "config": {"weights": {"bits": {"choice": [4, 8]}}}},
    ...                {"step": "export", "files": ["my.onnx"]}]}
    ... )
    >>> [each.name for each in space.parameters], space.size
    (['quantize.config.weights.bits'], 2)
    >>> space.recipe({"quantize.config.weights.bits": 4}).steps[0].config
    {'weights': {'bits': 4}}
    """

    def __init__(self, values: Mapping[str, Any]):
        if not isinstance(values, Mapping):
            raise ValueError(f"Expected {FORM}. Received: {short(values)}.")
        self._values = json.loads(json.dumps(values))
        self._tree = _tree(self._values)
        self.parameters = self._found()
        if not self.parameters:
            raise ValueError(
                f"Expected {FORM}. Received: a recipe with neither, so that there is nothing to search. Run it with "
                "tfcompress.compress."
            )
        self._check()

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> SearchSpace:
        """Return the space of a `.yaml`, `.yml` or `.json` file.

        Raises:
            FileNotFoundError: If it isn't there.
            ValueError: If it holds something else: the message says where.
        """
        with file_named(path, "a search space", "a search space"):
            return cls(parsed(path, FORM))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON and YAML."""
        made: dict[str, Any] = json.loads(json.dumps(self._values))
        return made

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> pathlib.Path:
        """Write it to a `.yaml`, `.yml` or `.json` file, whole or not at all, and return the path.

        Raises:
            FileExistsError: If the file is there and `overwrite` is False.
            ValueError: If the path has another suffix.
        """
        return write_values(path, self._values, overwrite)

    @property
    def name(self) -> str:
        """The name of its recipes."""
        return str(self._values.get("name", "search"))

    @property
    def size(self) -> int | None:
        """How many recipes there are; `None`: more than 2,000."""
        count = sum(1 for _ in itertools.islice(self.all(), MOST + 1)) if self._finite() else MOST + 1
        return count if count <= MOST else None

    def recipe(self, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe of values for parameters, by their names; parameters of options not taken are left out."""
        return self.ask(lambda parameter: values[parameter.name])

    def ask(self, ask: Ask) -> Recipe:
        """Return the recipe of the values that a function gives for each parameter that there is by then."""
        return Recipe.from_dict(_filled(self._tree, ask))

    def file_names(self) -> list[str]:
        """Return the names of the files to be judged that every recipe exports, as far as was checked."""
        return self._files

    def all(self) -> Iterator[dict[str, Any]]:
        """Yield values of parameters for each recipe of a finite space."""
        return _combinations(self._tree, lambda parameter: parameter.values() or [])

    def _finite(self) -> bool:
        return all(parameter.values() for parameter in self.parameters)

    def _found(self) -> tuple[Parameter, ...]:
        """Return all parameters, those inside of options too; remember under which options each is asked for."""
        self._within: dict[str, Mapping[str, Any]] = {}
        found: dict[str, Parameter] = {}
        waiting: list[dict[str, Any]] = [{}]
        while waiting:
            fixed = waiting.pop(0)
            taken: dict[str, Any] = {}

            def ask(parameter: Parameter, fixed: Mapping[str, Any] = fixed, taken: Any = taken) -> Any:
                if parameter.name not in found:
                    found[parameter.name] = parameter
                    self._within[parameter.name] = fixed
                    nested = [one for one in parameter.options if isinstance(one, dict | list)]
                    if nested:
                        waiting.extend({**fixed, parameter.name: label} for label in parameter.labels)
                taken[parameter.name] = fixed.get(parameter.name, parameter.ends()[0])
                return taken[parameter.name]

            _filled(self._tree, ask)
        return tuple(found.values())

    def targets(self, file: str | None = None) -> list[Target | None]:
        """Return what a file of its recipes, or any of them, may be for; `None`: that isn't said."""
        return list(dict.fromkeys(target for name, target in self._targets if file in (None, name)))

    def _check(self) -> None:
        ends = _combinations(self._tree, lambda parameter: parameter.ends())
        tried = list(itertools.islice(ends, MOST + 1))
        self._files: list[str] = []
        self._targets: dict[tuple[str, Target | None], None] = {}
        first = True
        for values in self._pairs() if len(tried) > MOST else tried:
            try:
                recipe = self.ask(lambda one, values=values: values.get(one.name, one.ends()[0]))  # type: ignore[misc]
            except (TypeError, ValueError) as error:
                said = ", ".join(f"{name}={value!r}" for name, value in values.items())
                raise ValueError(f"With {said}: {error}") from error
            names = judged_files(recipe)
            self._targets.update({(name, target_of(recipe.steps, name)): None for name in names})
            self._files = names if first else [name for name in self._files if name in names]
            first = False
            if not names:
                raise ValueError(
                    "Expected a recipe that exports a .tflite or .onnx file, to be judged. Received: none. Add "
                    '{"step": "export", "files": ["model.tflite"]}.'
                )

    def _pairs(self) -> Iterator[dict[str, Any]]:
        """Yield values, so that each pair of values of two parameters is among them."""
        each = [
            {**self._within[parameter.name], parameter.name: value}
            for parameter in self.parameters
            for value in parameter.ends()
        ]
        for one, other in itertools.combinations_with_replacement(each, 2):
            yield {**one, **other}


def judged_files(recipe: Recipe) -> list[str]:
    """Return the names of the files of a recipe that can be judged."""
    return [name for step in recipe.steps for name in getattr(step, "files", ()) if name.endswith(_FILES)]


def _combinations(tree: Any, values: Callable[[Parameter], list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield all combinations of values: which parameters there are depends on those asked for before."""
    places: list[list[int]] = []
    while True:
        taken: dict[str, Any] = {}

        def ask(parameter: Parameter, taken: dict[str, Any] = taken) -> Any:
            if parameter.name not in taken:
                there = values(parameter)
                if len(taken) == len(places):
                    places.append([0, len(there)])
                taken[parameter.name] = there[places[len(taken)][0]]
            return taken[parameter.name]

        _filled(tree, ask)
        yield taken
        while places and places[-1][0] + 1 == places[-1][1]:
            places.pop()
        if not places:
            return
        places[-1][0] += 1


def _filled(node: Any, ask: Ask) -> Any:
    """Return plain values: each parameter of a tree replaced by what is answered."""
    if isinstance(node, Parameter):
        answer = ask(node)
        return _filled(node.option(answer), ask) if node.options else answer
    if isinstance(node, dict):
        return {name: _filled(value, ask) for name, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, ask) for value in node]
    if isinstance(node, _Steps):
        made = [_filled(value, ask) for value in node.steps]
        return [step for step in made if step is not None]
    return node


@dataclasses.dataclass(frozen=True)
class _Steps:
    """Steps, of which a choice may leave one out."""

    steps: tuple[Any, ...]


def _tree(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with a `Parameter` in place of each choice and each range."""
    made = {name: _node(value, name) for name, value in values.items() if name != "steps"}
    steps = values.get("steps")
    if not isinstance(steps, list):
        return {**made, **({"steps": steps} if "steps" in values else {})}  # a recipe says what is wrong
    names: list[str] = []
    found = []
    for place, step in enumerate(steps):
        kind = step.get("step") if isinstance(step, dict) else None
        name = kind if isinstance(kind, str) else f"steps[{place}]"
        names.append(name)
        found.append(_node(step, name if names.count(name) == 1 else f"{name}_{names.count(name)}"))
    return {**made, "steps": _Steps(tuple(found))}


def _node(value: Any, name: str, named: bool = False) -> Any:
    """Return a tree of a value; `named`: its keys are names of layers, which may be any."""
    if isinstance(value, list):
        return [_node(one, f"{name}[{place}]") for place, one in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("choice"), list):
        return _choice(value, name)
    if not named and any(key in value for key in ("low", "high")):
        return _range(value, name)
    return {key: _node(one, f"{name}.{key}", key == "by_layer") for key, one in value.items()}


def _choice(value: dict[str, Any], name: str) -> Parameter:
    options = value["choice"]
    others = [key for key in value if key != "choice"]
    if others or not options:
        received = f"{others[0]!r} beside it" if others else "no option"
        raise ValueError(f"At {name}: Expected {{choice: [...]}} with options. Received: {received}.")
    texts = [json.dumps(one, sort_keys=True) for one in options]
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise ValueError(f"At {name}: Expected each option once. Received: {twice} twice.")
    plain = all(isinstance(one, str | bool | int | float | None) for one in options)
    made = tuple(_node(one, f"{name}[{place}]") for place, one in enumerate(options))
    return Parameter(name, made, tuple(options if plain else texts))


def _range(value: dict[str, Any], name: str) -> Parameter:
    for key in value:
        if key not in RANGE:
            near = nearest_names([key], RANGE)
            raise ValueError(f"At {name}: Expected a range: {', '.join(RANGE)}. Received: {key!r}.{near}")
    low, high, step, log = (value.get(key) for key in RANGE)
    for key, number in (("low", low), ("high", high), ("step", step)):
        if not (isinstance(number, int | float) and math.isfinite(number)) or isinstance(number, bool):
            if number is None and key == "step":
                continue
            raise ValueError(f"At {name}: Expected {key} to be a number. Received: {short(number)}.")
    if low >= high or (step is not None and not 0 < step <= high - low):  # type: ignore[operator]
        raise ValueError(f"At {name}: Expected low below high, and a step between. Received: {value!r}.")
    if log not in (None, True, False) or (log and (step is not None or low <= 0)):  # type: ignore[operator]
        raise ValueError(f"At {name}: Expected log: true with low above 0 and without a step. Received: {value!r}.")
    whole = is_whole(low) and is_whole(high) and (step is None or is_whole(step))
    step = 1 if whole and step is None and not log else step
    if step is not None:
        high = low + math.floor((high - low) / step + 1e-9) * step  # type: ignore[operator]
    return Parameter(name, (), (), low, high, step, bool(log))  # type: ignore[arg-type]


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and one == other)
