"""How each layer and each call of a graph is quantized: one config for all, or one for each layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

from keras.layers import Layer

from tfcompress.core.names import listed
from tfcompress.graph import LayerChoice, kernel_positions
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.index import GraphIndex, index_of
from tfcompress.graph.rewrite import Call
from tfcompress.quantization.quantize_config import ActivationSpec, QuantizeConfig

BY_ITS_CONFIG = "left alone by its config"
"""Why a layer stays float whose config is `None`."""


@dataclasses.dataclass(frozen=True)
class LayerPrecisions:
    """The configs of a model's layers.

    Attributes:
        common: The config of what has none of its own.
        own: {layer's name: config}; empty where one holds for all.
        left: The layers that are to be left alone, by their configs.
    """

    common: QuantizeConfig
    own: Mapping[str, QuantizeConfig] = dataclasses.field(default_factory=dict)
    left: frozenset[str] = frozenset()

    @property
    def dynamic(self) -> bool:
        """Whether ranges are found at run time, which then holds for all layers."""
        return self.common.activations is not None and self.common.activations.dynamic

    @property
    def static(self) -> bool:
        """Whether some layer's activations have ranges that are calibrated or learned."""
        return not self.common.float16 and not self.dynamic and any(c.activations is not None for c in self.all)

    @property
    def all(self) -> tuple[QuantizeConfig, ...]:
        """The configs that there are."""
        return tuple(dict.fromkeys(self.own.values())) or (self.common,)

    def named(self, operation: Any) -> QuantizeConfig | None:
        """Return the config that a layer has by its name, or that of the layer that it was made of."""
        names = (operation.name, *getattr(operation, "source_names", ()))
        return next((self.own[name] for name in names if name in self.own), None)

    def of(self, operation: Any) -> QuantizeConfig:
        """Return the config of a layer with a kernel."""
        return self.named(operation) or self.common

    def of_calls(self, graph: GraphIndex) -> dict[Call, QuantizeConfig]:
        """Return the config of each call of a graph.

        What has none of its own, as most layers without a kernel, has that of what is before it, the one with the most
        bits of activations where several are; at the model's inputs, that of what is behind.
        """
        if not self.own:
            return dict.fromkeys(graph, self.common)
        found: dict[Call, QuantizeConfig] = {}
        for call in graph:
            before = [found[one] for x in call.inputs if (one := graph.producer(x)) in found]
            config = self.named(call.operation) or max(before, key=_bits, default=None)
            if config is not None:
                found[call] = config
        for call in reversed(graph):
            behind = [found[one] for one in graph.readers_of_call(call) if one in found]
            found.setdefault(call, max(behind, key=_bits, default=self.common))
        return found


def _bits(config: QuantizeConfig) -> int:
    return config.activations.bits if config.activations is not None else 0


def family(spec: ActivationSpec) -> tuple[int, bool]:
    """Return what tells whether two tensors can be on one grid: bits and symmetry."""
    return spec.bits, spec.symmetric


def chosen_layers(
    flat: FlatGraph, choice: LayerChoice, configs: LayerConfigs | None, config: QuantizeConfig | None
) -> tuple[dict[str, bool], LayerPrecisions]:
    """Return which layers of a flat graph are quantized, and how each is.

    Args:
        flat: The graph.
        choice: What `layers=` chooses.
        configs: A config for each layer; `None`: `config` is for all.
        config: For all; `None`: `configs` says.

    Raises:
        ValueError: If no layer with a kernel is meant, or the configs can't be together in one model.
    """
    resolved = None if configs is None else configs.resolve(flat.layers, QuantizeConfig.get, choice)
    chosen = {layer.name: choice.includes(layer) for layer in flat.layers}
    choice.check()
    kernels = {layer.name for layer in flat.layers if kernel_positions(layer)}
    _check_kernels(choice, chosen, kernels)
    if not any(chosen[name] for name in chosen.keys() - kernels):  # the other layers follow those with kernels
        chosen = {name: name not in kernels or wanted for name, wanted in chosen.items()}
    if resolved is None:
        assert config is not None
        if config.first_and_last_bits is None:
            return chosen, LayerPrecisions(config)
        own = _at_the_ends(flat, kernels, {name: config for name in chosen if name in kernels and chosen[name]})
        return chosen, LayerPrecisions(config, own)
    left = frozenset(name for name in resolved.places if resolved.of(name) is None)
    own = {name: resolved.of(name) for name in resolved.places if name not in left}
    chosen = {
        name: wanted and name not in left and (name in own or name not in kernels) for name, wanted in chosen.items()
    }
    if not kernels & own.keys():
        raise ValueError(
            f"Expected a config for some layer with a kernel. Received: one for {_listed(own)}. Name some of "
            f"{_listed(kernels)} too."
        )
    _check_together(own)
    own = _at_the_ends(flat, kernels, own)
    of_kernels = [own[layer.name] for layer in flat.layers if layer.name in kernels and layer.name in own]
    return chosen, LayerPrecisions(max(of_kernels, key=_bits), own, left)


def _at_the_ends(
    flat: FlatGraph, kernels: Collection[str], own: Mapping[str, QuantizeConfig]
) -> dict[str, QuantizeConfig]:
    """Return the configs of layers, those of the first and the last kernels with the bits that they want there."""
    graph = index_of(flat)
    behind: set[Call] = set()  # a kernel
    before: set[Call] = set()
    for call in graph:
        makers = [one for x in call.inputs if (one := graph.producer(x)) is not None]
        if any(one in behind or one.operation.name in kernels for one in makers):
            behind.add(call)
    for call in reversed(graph):
        if any(one in before or one.operation.name in kernels for one in graph.readers_of_call(call)):
            before.add(call)
    ends = {call.operation.name for call in graph if call not in behind or call not in before} & set(kernels)
    return {name: config.at_the_ends if name in ends else config for name, config in own.items()}


def _listed(names: Any) -> str:
    found = [repr(name) for name in names]
    return listed(found) if found else "none"


def _check_kernels(choice: LayerChoice, chosen: dict[str, bool], kernels: set[str]) -> None:
    """Raise ValueError if `layers` chooses none with a kernel, though there are some."""
    if kernels and not any(chosen[name] for name in kernels):
        others = [name for name, wanted in chosen.items() if wanted]
        raise ValueError(
            f"Expected layers with a kernel. Received: layers={choice.given!r}, which chooses "
            f"{listed(map(repr, others), 3)}, without one. Choose some of "
            f"{_listed(name for name in chosen if name in kernels)} too."
        )


_KINDS: dict[str, Callable[[QuantizeConfig], bool]] = {
    "float16 weights": lambda config: config.float16,
    "ranges found at run time": lambda config: config.activations is not None and config.activations.dynamic,
    "ranges from calibration, or integer weights alone": lambda config: True,
}


def _check_together(own: Mapping[str, QuantizeConfig]) -> None:
    """Raise ValueError unless all configs are of one kind, which one file can hold."""
    found: dict[str, str] = {}
    for name, config in own.items():
        kind = next(kind for kind, holds in _KINDS.items() if holds(config))
        found.setdefault(kind, name)
    if len(found) > 1:
        said = "; ".join(f"{kind} for {name!r}" for kind, name in found.items())
        raise ValueError(
            "Expected configs that one file can hold: 8 and 16 bits of activations, per channel and per tensor, and "
            "weights alone go together; ranges found at run time, and float16, go with None alone. Received: "
            f"{said}. Give all layers configs of one of these kinds, or None."
        )


def is_left_alone(layer: Layer, precisions: LayerPrecisions) -> bool:
    """Return whether a layer's config is `None`."""
    return any(name in precisions.left for name in (layer.name, *getattr(layer, "source_names", ())))
