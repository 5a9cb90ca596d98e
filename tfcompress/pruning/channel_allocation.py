"""Which groups of channels or heads are pruned, and how much of each."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import keras
from keras.layers import Layer

from tfcompress.channels import Analysis, ChannelGroup
from tfcompress.core.names import listed
from tfcompress.graph import LayerChoice
from tfcompress.graph.openable import why_whole
from tfcompress.pruning.allocation import Spread
from tfcompress.pruning.kernel_pruning import check_final, check_names
from tfcompress.pruning.prune_config import PruneConfig

_WORDS = {"channel": "channels", "attention_head": "heads"}


def chosen_groups(
    flat: keras.Model, analysis: Analysis, config: PruneConfig, choice: LayerChoice
) -> list[ChannelGroup]:
    """Return the groups of channels of a flat model that can be pruned and are meant.

    Raises:
        ValueError: As `tfcompress.prune`.
    """
    layers = {layer.name: layer for layer in flat.layers}
    meant = {name: choice.includes(layer) for name, layer in layers.items()}
    choice.check()
    kind = str(config.granularity)
    all_groups = [group for group in analysis.groups if group.kind == kind]
    chosen = []
    for group in all_groups:
        named = next((name for name in group.producers if choice.names_it(layers[name])), None)
        if named and group.reason is not None:
            raise ValueError(
                f"Expected layers whose {_WORDS[kind]} can be removed. Received: {named!r}, whose can't: "
                f"{group.reason}."
            )
        others = [producer for producer in group.producers if not meant[producer]]
        split = [name for name in others if choice.elsewhere(name)]
        if group.reason is None and split and len(others) < len(group.producers):
            own = next(name for name in group.producers if name not in others)
            raise ValueError(
                f"Expected one config for layers that make the same {_WORDS[kind]}, since these can only go together. "
                f"Received: {own!r} and {', '.join(map(repr, split))} with one each. Let one key match them all."
            )
        if named and others:
            raise ValueError(
                f"Expected all layers that make the same {_WORDS[kind]}, since these can only go together. Received: "
                f"{named!r} without {', '.join(map(repr, others))}. Name these too."
            )
        if group.reason is None and not others:
            chosen.append(group)
    if not chosen:
        reasons = [f"{group.name}: {group.reason}" for group in all_groups if group.reason]
        if kind == "attention_head":
            reasons += [f"{layer.name}: {why}" for layer in flat.layers if (why := why_whole(layer))]
        raise ValueError(
            f"Expected a model with {_WORDS[kind]} that can be removed. Received: {flat.name!r}, in which none of "
            f"those that are meant can be{': ' + listed(reasons, 5, '; ') if reasons else ''}."
        )
    _check_allocation(config, chosen, layers)
    if config.scope == "layer":
        _check_heads(config, chosen)
        _say_what_is_empty(config, chosen)
    return chosen


def share_of(config: PruneConfig, group: ChannelGroup) -> float:
    """Return what the schedule's sparsity is multiplied by for a group of channels."""
    if not isinstance(config.allocation, dict):
        return 1.0
    found = {name: config.allocation[name] for name in group.producers if name in config.allocation}
    if len(set(found.values())) > 1 and not isinstance(config.allocation, Spread):
        raise ValueError(
            "Expected one target for layers that make the same channels, since these can only go together. Received: "
            f"{found}. Name one of them, or give all the same."
        )
    return min(found.values()) / config.schedule.final() if found else 1.0


def _check_allocation(config: PruneConfig, chosen: Sequence[ChannelGroup], layers: dict[str, Layer]) -> None:
    """Raise ValueError unless the sparsities are for layers whose channels are pruned; a function may know others."""
    if config.allocation == "uniform":
        return
    if not isinstance(config.allocation, dict):
        raise ValueError(
            f"Expected allocation='uniform' or {{layer: sparsity}} with granularity={config.granularity!r}. Received: "
            f"allocation={config.allocation!r}, which is for single weights."
        )
    check_final(config)
    names = [producer for group in chosen for producer in group.producers]
    passed = [name for name in config.allocation if name in layers and name not in names]
    if not isinstance(config.allocation, Spread):
        passed = []
    check_names([name for name in config.allocation if name not in passed], names)
    passed = [name for name in passed if config.allocation[name]]
    if passed:
        warnings.warn(
            f"The sparsities of layer {', '.join(map(repr, passed))} are ignored, since none of its "
            f"{_WORDS[str(config.granularity)]} are pruned: the whole becomes less sparse than was planned.",
            stacklevel=6,
        )


def _check_heads(config: PruneConfig, chosen: Sequence[ChannelGroup]) -> None:
    """Raise ValueError if a sparsity is none that an attention can have with a whole number of heads."""
    final = config.schedule.known_final()
    if config.granularity != "attention_head" or final is None:
        return
    for group in chosen:
        share = final * share_of(config, group)
        if abs(share - round(share * group.size) / group.size) > 0.01:
            places = range(group.size) if group.size <= 8 else [int(share * group.size), int(share * group.size) + 1]
            raise ValueError(
                f"Expected a sparsity that takes whole heads. Received: {share:.4g} for {group.name!r}, which has "
                f"{group.size} heads. Give {' or '.join(f'{at / group.size:.4g}' for at in places)}, for this layer "
                "alone with `allocation`."
            )


def _say_what_is_empty(config: PruneConfig, chosen: Sequence[ChannelGroup]) -> None:
    """Warn of layers of which the schedule would leave nothing; without an end it doesn't say that."""
    final = config.schedule.known_final()
    if final is None:
        return
    alone = [group.name for group in chosen if group.size * (1 - final * share_of(config, group)) < 0.5]
    if alone:
        warnings.warn(
            f"The sparsity would leave layer {', '.join(map(repr, alone))} without "
            f"{_WORDS[str(config.granularity)]}: one is kept in each.",
            stacklevel=6,
        )
