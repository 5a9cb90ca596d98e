"""A config for each layer: a mapping from layers to configs, of which the first key that matches a layer counts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
from keras.layers import Layer

from tfcompress.core.arguments import check_fields, short
from tfcompress.graph.selectors import LayerChoice

Key = str | re.Pattern[str] | type[Layer] | Callable[[Layer], bool]

FORM = (
    "a mapping from layers to configs, whose keys are a layer's name, a regular expression, a class of layers or a "
    "function from a layer to bool"
)


@dataclasses.dataclass(frozen=True)
class LayerConfigs:
    """A config for each layer, as every verb takes it that takes a config.

    Of the keys that match a layer the first counts, in the mapping's order. `None` leaves a layer alone, and so does no
    match: end with `".*"` to mean all others. A key that matches no layer, or none that an earlier key doesn't, is an
    error. Where `layers=` is given too, it says which layers are looked at at all.

    Args:
        configs: {key: config or `None`}. A key is a layer's name or a regular expression that a whole name must match,
            as in `layers=`; a compiled one; a class of layers; or a function from a layer to bool. Layers inside of
            nested models go by the names that `tfc.summary` shows; the parts of a layer that is split, by its own.

    Raises:
        TypeError: If `configs` is no mapping, or a key is something else.
        ValueError: If it is empty, or a key is no regular expression.

    Example:

    >>> import keras, tfcompress as tfc
    >>> layers = [keras.layers.Dense(4, name="first"), keras.layers.Dense(2, name="logits")]
    >>> model = keras.Sequential([keras.Input((8,)), *layers])
    >>> pruned = tfc.prune(model, {"logits": None, ".*": 0.5})
    >>> [type(layer).__name__ for layer in pruned.layers]
    ['InputLayer', 'CompressedLayer', 'Dense']
    """

    configs: Mapping[Key, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.configs, Mapping):
            raise TypeError(f"Expected {FORM}. Received: {short(self.configs)}.")
        if not self.configs:
            raise ValueError(f"Expected {FORM}. Received: an empty one.")
        object.__setattr__(self, "configs", dict(self.configs))
        for key in self.configs:
            _choice(key)

    @staticmethod
    def given(config: Any) -> LayerConfigs | None:
        """Return what a verb was given, if it is a config for each layer; `None` if it is one for all."""
        if isinstance(config, LayerConfigs):
            return config
        return LayerConfigs(config) if isinstance(config, Mapping) else None

    def resolve(
        self, layers: Iterable[Layer], read: Callable[[Any], Any], choice: LayerChoice | None = None
    ) -> ResolvedConfigs:
        """Return which layers have which config.

        Args:
            layers: Of a flat model.
            read: Makes a verb's config of a value of the mapping; it is not asked for `None`.
            choice: What `layers=` chooses; `None`: all. It is asked about all layers, and checked.

        Raises:
            TypeError, ValueError: As `read`; the message then names the key.
            ValueError: If a key matches none of the layers that `choice` includes, or none first.
        """
        entries = [(key, _read(read, key, value)) for key, value in self.configs.items()]
        keys = [_choice(key) for key, _ in entries]
        found: dict[str, int] = {}
        for layer in layers:
            if choice is not None and not choice.includes(layer):
                continue
            matching = [place for place, key in enumerate(keys) if key.includes(layer)]
            if matching:
                found[layer.name] = matching[0]
        if choice is not None:
            choice.check()
        first = set(found.values())
        for place, ((key, _), one) in enumerate(zip(entries, keys, strict=True)):
            try:
                one.check()
            except ValueError as error:
                if choice is None or choice.all:
                    raise
                raise ValueError(f"{error} Only the layers that `{choice.argument}` chooses are looked at.") from None
            if place not in first:
                raise ValueError(
                    f"Expected each key of `config` to be the first that matches some layer. Received: {_shown(key)}, "
                    "all of whose layers match earlier keys. Put it in front of these, or leave it out."
                )
        return ResolvedConfigs(tuple(entries), found)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON.

        Raises:
            ValueError: If a key is a function; resolve it first (`ResolvedConfigs.by_name`).

        Example:

        >>> LayerConfigs({"conv.*": "int8", keras.layers.Dense: None}).to_dict()
        {'layers': [[{'name': 'conv.*'}, 'int8'], [{'class': 'keras.layers.Dense'}, None]]}
        """
        return {"layers": [[_key_to_dict(key), _plain(config)] for key, config in self.configs.items()]}

    @classmethod
    def from_dict(cls, values: Any, config_class: Any = None) -> LayerConfigs:
        """Return the mapping that `to_dict` was called on.

        Args:
            values: Of `to_dict`.
            config_class: Of configs that are no plain values, such as `tfc.QuantizeConfig`.
        """
        rows = check_fields("LayerConfigs", values, ("layers",), least=("layers",))["layers"]
        if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 2 for row in rows):
            raise ValueError(f"Expected `layers` to be a list of pairs [key, config]. Received: {short(rows)}.")
        made = {}
        for key, config in rows:
            if isinstance(config, dict) and config_class is None:
                raise ValueError(
                    f"Expected config_class=, of which the configs are. Received: None, and {short(config)}."
                )
            made[_key_from_dict(key)] = config_class.from_dict(config) if isinstance(config, dict) else config
        return cls(made)


@dataclasses.dataclass(frozen=True)
class ResolvedConfigs:
    """Which layers of a model have which config.

    Attributes:
        entries: The keys, each with its config; `None`: its layers are left alone.
        places: {layer's name: place of its entry}, without layers that no key matches.
    """

    entries: tuple[tuple[Key, Any], ...]
    places: Mapping[str, int]

    def of(self, name: str) -> Any:
        """Return the config of the layer of that name; `None` if it is to be left alone."""
        return self.entries[self.places[name]][1] if name in self.places else None

    def choices(self) -> Iterator[tuple[Any, LayerChoice]]:
        """Yield each config that isn't `None` with the choice of its layers."""
        for place, (key, config) in enumerate(self.entries):
            if config is not None:
                own = {name for name, at in self.places.items() if at == place}
                others = {name for name in self.places if name not in own and self.of(name) is not None}
                yield config, EntryChoice(key, own, others)

    def by_name(self) -> LayerConfigs:
        """Return the mapping with names of layers as keys, which JSON can hold whatever chose them."""
        return LayerConfigs({re.escape(name): self.of(name) for name in self.places})


class EntryChoice(LayerChoice):
    """The layers of one entry, which are known; their key has been checked.

    Args:
        key: Of the entry.
        names: Of its layers.
        others: Of the layers with another config.
    """

    def __init__(self, key: Key, names: set[str], others: set[str]):
        super().__init__(key, "config")
        self.resolved, self.others = names, others

    def includes(self, layer: Layer) -> bool:
        """Return whether a layer is one of them, or made of one."""
        return any(name in self.resolved for name in (layer.name, *getattr(layer, "source_names", ())))

    def elsewhere(self, name: str) -> bool:
        """Return whether the layer of a name has another config."""
        return name in self.others

    def check(self) -> None:
        """Do nothing: `LayerConfigs.resolve` has."""


def _choice(key: Any) -> LayerChoice:
    """Return what a key chooses."""
    one = isinstance(key, str | re.Pattern | type) or (callable(key) and not isinstance(key, Layer))
    if not one or (isinstance(key, type) and not issubclass(key, Layer)):
        raise TypeError(f"Expected {FORM}. Received: {short(key)} as a key.")
    return LayerChoice(key, "config", strict=True)


def _read(read: Callable[[Any], Any], key: Key, value: Any) -> Any:
    if value is None:
        return None
    try:
        return read(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"For {_shown(key)} in `config`: {error}") from error


def _shown(key: Key) -> str:
    if isinstance(key, re.Pattern):
        return repr(key.pattern)
    return key.__name__ if isinstance(key, type) else repr(key)


def _plain(config: Any) -> Any:
    return config.to_dict() if hasattr(config, "to_dict") else config


def _key_to_dict(key: Key) -> dict[str, Any]:
    if isinstance(key, str):
        return {"name": key}
    if isinstance(key, re.Pattern):
        return {"pattern": key.pattern, "flags": key.flags}
    if isinstance(key, type):
        own = getattr(keras.layers, key.__name__, None) is key
        return {"class": f"keras.layers.{key.__name__}" if own else keras.saving.get_registered_name(key)}
    raise ValueError(
        f"Expected names, regular expressions or classes of layers as keys, which JSON can hold. Received: "
        f"{short(key)}. Store what they choose in a model: LayerConfigs.resolve(model.layers, read).by_name()."
    )


def _key_from_dict(values: Any) -> Key:
    fields = check_fields("a key of LayerConfigs", values, ("name", "pattern", "flags", "class"))
    if set(fields) == {"name"}:
        return str(fields["name"])
    if set(fields) == {"pattern", "flags"}:
        return re.compile(fields["pattern"], fields["flags"])
    if set(fields) == {"class"}:
        name = str(fields["class"])
        found = getattr(keras.layers, name.removeprefix("keras.layers."), None)
        found = keras.saving.get_registered_object(name) or found
        if isinstance(found, type) and issubclass(found, Layer):
            return found
    raise ValueError(
        "Expected a key {'name': ...}, {'pattern': ..., 'flags': ...} or {'class': ...} of a class that Keras has or "
        f"that is registered. Received: {short(values)}."
    )
