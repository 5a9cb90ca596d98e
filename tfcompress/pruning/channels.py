"""Masks on whole channels or attention heads, for all weights that make or read them."""

from __future__ import annotations

import math
import uuid
import warnings
from collections.abc import Sequence
from typing import Any

import keras
from keras.layers import Layer

from tfcompress.pruning.channel_mask import ChannelMask
from tfcompress.pruning.config import PruneConfig
from tfcompress.pruning.gathering import Evidence, gather_frequencies, gather_gradients
from tfcompress.pruning.kernels import (
    check_budget,
    check_criterion,
    check_final,
    check_names,
    check_prunable,
    prices_of,
)
from tfcompress.pruning.statistics import GATHERED
from tfcompress.surgery import LayerChoice, kernel_positions, rebuild
from tfcompress.surgery.channels import ChannelGroup, Slice, channel_groups
from tfcompress.transform import put
from tfcompress.wrapper import inner_weights, with_transforms


def prune_channels(model: keras.Model, config: PruneConfig, choice: LayerChoice, evidence: Evidence) -> keras.Model:
    """Return a model in which the kernels that make and read channels have common masks.

    Arguments and errors are those of `prune`.
    """
    flat = rebuild(model)
    layers = {layer.name: layer for layer in flat.layers}
    groups = _chosen(flat, config, choice)
    name = uuid.uuid4().hex
    slices: dict[str, list[tuple[int, ChannelMask]]] = {}
    masks: list[ChannelMask] = []
    for number, group in enumerate(groups):
        first = len(masks)
        for part in group.slices:
            weight = inner_weights(layers[part.layer])[part.position]
            role = "scale" if weight.name == "gamma" else part.role
            kernel = part.position in kernel_positions(layers[part.layer])
            if not kernel and not (role == "scale" and "scale" in config.needs):
                continue  # nothing behind depends on the biases and statistics of channels that nobody reads
            mask = ChannelMask(
                config,
                f"{name}_{number}" if config.scope == "layer" else name,
                share=_share(config, group),
                seed=number,
                given=evidence.data is not None,
                unit=group.name,
                size=group.size,
                axis=part.axis,
                role=role,
                start=part.start,
                outer=part.outer,
                inner=part.inner,
            )
            slices.setdefault(part.layer, []).append((part.position, mask))
            masks.append(mask)
        for mask in masks[first:]:
            mask.group_size = len(masks) - first
        if "scale" in config.needs and not any(mask.role == "scale" for mask in masks[first:]):
            raise ValueError(
                f"Expected channels with a batch normalization behind them, by whose scale they are judged. Received: "
                f"{group.name!r}, which has none. Leave it out of `layers`, or take another criterion."
            )
    if config.scope != "layer":
        for mask in masks:
            mask.group_size = len(masks)
    if config.scope in ("flops", "bytes"):
        masks[0].costs = _costs(config, flat, groups)
    for layer_name, found in slices.items():
        positions = sorted({position for position, _ in found})
        check_prunable(layers[layer_name], positions)
        for position in positions:
            check_criterion(config, inner_weights(layers[layer_name])[position])
    gathered = _gathered(config, flat, groups, evidence)

    def wrap(layer: Layer) -> Layer:
        if layer.name not in slices:
            return layer
        wrapper = with_transforms(layer, slices[layer.name])
        for position, mask in slices[layer.name] if evidence.data is not None else ():
            for statistic, variable in mask.gathering.values.items():
                put(variable, gathered[statistic][layer.name, position])
            if mask.frequency is not None:
                put(mask.frequency, gathered["activation_frequency"][mask.unit])
        return wrapper

    return rebuild(flat, wrap)


def _chosen(flat: keras.Model, config: PruneConfig, choice: LayerChoice) -> list[ChannelGroup]:
    """Return the groups of channels that can be pruned and are meant."""
    layers = {layer.name: layer for layer in flat.layers}
    meant = {name: choice.includes(layer) for name, layer in layers.items()}
    choice.check()
    kind = str(config.granularity)
    all_groups = [group for group in channel_groups(flat) if group.kind == kind]
    chosen = []
    for group in all_groups:
        named = next((name for name in group.producers if choice.names_it(layers[name])), None)
        if named and group.reason is not None:
            raise ValueError(
                f"Expected layers whose {_WORDS[kind]} can be removed. Received: {named!r}, whose can't: "
                f"{group.reason}."
            )
        others = [producer for producer in group.producers if not meant[producer]]
        if named and others:
            raise ValueError(
                f"Expected all layers that make the same {_WORDS[kind]}, since these can only go together. Received: "
                f"{named!r} without {', '.join(map(repr, others))}. Name these too."
            )
        if group.reason is None and not others:
            chosen.append(group)
    if not chosen:
        said = "; ".join(f"{group.name}: {group.reason}" for group in all_groups[:5] if group.reason)
        raise ValueError(
            f"Expected a model with {_WORDS[kind]} that can be removed. Received: {flat.name!r}, in which none of "
            f"those that are meant can be{': ' + said if said else ''}."
        )
    if isinstance(config.targets, dict):
        check_final(config)
        check_names(config.targets, [producer for group in chosen for producer in group.producers])
    elif config.targets != "uniform":
        raise ValueError(
            f"Expected targets='uniform' or {{layer: sparsity}} with granularity={kind!r}. Received: "
            f"targets={config.targets!r}, which is for single weights."
        )
    if config.scope == "layer":
        final = config.schedule.final()
        alone = [group.name for group in chosen if group.size * (1 - final * _share(config, group)) < 0.5]
        if alone:
            warnings.warn(
                f"The sparsity would leave layer {', '.join(map(repr, alone))} without {_WORDS[kind]}: one is kept in "
                "each.",
                stacklevel=5,
            )
    return chosen


_WORDS = {"channel": "channels", "attention_head": "heads"}


def _share(config: PruneConfig, group: ChannelGroup) -> float:
    if not isinstance(config.targets, dict):
        return 1.0
    found = {name: config.targets[name] for name in group.producers if name in config.targets}
    if len(set(found.values())) > 1:
        raise ValueError(
            "Expected one target for layers that make the same channels, since these can only go together. Received: "
            f"{found}. Name one of them, or give all the same."
        )
    return next(iter(found.values())) / config.schedule.final() if found else 1.0


def _costs(config: PruneConfig, flat: keras.Model, groups: Sequence[ChannelGroup]) -> list[list[Any]]:
    """Return what each kernel of a model costs, and which units have which share of which of its axes."""
    axes: dict[tuple[str, int], dict[int, list[tuple[str, float]]]] = {}
    layers = {layer.name: layer for layer in flat.layers}
    for group in groups:
        for part in group.slices:
            length = inner_weights(layers[part.layer])[part.position].shape[part.axis]
            share = group.size * part.outer * part.inner / length
            axes.setdefault((part.layer, part.position), {}).setdefault(part.axis, []).append((group.name, share))
    table: list[list[Any]] = []
    fixed = least = 0.0
    sizes = {group.name: group.size for group in groups}
    for (name, position), price in prices_of(flat, config.scope).items():
        cost = price * math.prod(inner_weights(layers[name])[position].shape)
        of_kernel = list(axes.get((name, position), {}).values())
        if of_kernel:
            table.append([cost, [[list(entry) for entry in axis] for axis in of_kernel]])
            least += cost * math.prod(
                1 - sum(share * (1 - 1 / sizes[unit]) for unit, share in axis) for axis in of_kernel
            )
        else:
            fixed += cost
    check_budget(config, (fixed + least) / (fixed + sum(cost for cost, _ in table)))
    return [*table, [fixed, []]]


def _gathered(
    config: PruneConfig, flat: keras.Model, groups: Sequence[ChannelGroup], evidence: Evidence
) -> dict[str, dict[Any, Any]]:
    """Return the statistics that come from data: {name: {(layer, position) or unit: value}}."""
    found: dict[str, dict[Any, Any]] = {}
    if evidence.data is None:
        return found
    names = [name for name in config.needs if name in GATHERED]
    if names:
        gradients = gather_gradients(flat, names, evidence)
        found = {name: {key: values[name] for key, values in gradients.items()} for name in names}
    if "activation_frequency" in config.needs:
        readers = {group.name: (group, _reader(group)) for group in groups}
        seen = gather_frequencies(flat, {part.layer for _, part in readers.values()}, evidence)
        found["activation_frequency"] = {
            unit: seen[part.layer][part.indices(group.size, range(group.size))]
            .reshape(part.outer, group.size, part.inner)
            .mean(axis=(0, 2))
            for unit, (group, part) in readers.items()
        }
    return found


def _reader(group: ChannelGroup) -> Slice:
    """Return where a layer reads the channels of a group, as the last axis of its input."""
    part = next((part for part in group.slices if part.role == "consumer"), None)
    if part is None or group.kind != "channel":
        raise ValueError(
            f"Expected channels that a convolution or dense layer reads. Received: {group.name!r}, of whose "
            "activations nothing is known. Leave it out of `layers`, or take another criterion."
        )
    return part
