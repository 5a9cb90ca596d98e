"""Masks on whole channels or attention heads, for all weights that make or read them."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras.layers import Layer

from tfcompress.channels import Analysis, ChannelGroup, analyse
from tfcompress.channels.costs import products
from tfcompress.core.transform import put
from tfcompress.core.wrappers import inner_weights, with_transforms
from tfcompress.graph import LayerChoice, kernel_positions, rebuild
from tfcompress.pruning.channel_allocation import chosen_groups, share_of
from tfcompress.pruning.channel_mask import ChannelMask
from tfcompress.pruning.firing_frequencies import gather_frequencies
from tfcompress.pruning.gradient_statistics import Evidence, gather_gradients
from tfcompress.pruning.kernel_pruning import check_budget, check_criterion, check_prunable, unit_costs
from tfcompress.pruning.prune_config import PruneConfig
from tfcompress.pruning.running_statistics import GATHERED


def prune_channels(model: keras.Model, config: PruneConfig, choice: LayerChoice, evidence: Evidence) -> keras.Model:
    """Return a model in which the kernels that make and read channels have common masks.

    Arguments and errors are those of `prune`.
    """
    flat = rebuild(model)
    layers = {layer.name: layer for layer in flat.layers}
    analysis = analyse(flat)
    groups = chosen_groups(flat, analysis, config, choice)
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
                continue  # nothing behind depends on the biases and statistics of channels that nothing reads
            mask = ChannelMask(
                config,
                f"{name}_{number}" if config.scope == "layer" else name,
                share=share_of(config, group),
                seed=number,
                given=evidence.data is not None,
                unit=group.name,
                size=group.size,
                axis=part.axis,
                role=role,
                start=part.start,
                outer=part.outer,
                inner=part.inner,
                gap=part.gap,
            )
            slices.setdefault(part.layer, []).append((part.position, mask))
            masks.append(mask)
        for mask in masks[first:]:
            mask.group_size = len(masks) - first
        if "scale" in config.needs and not any(mask.role == "scale" for mask in masks[first:]):
            raise ValueError(
                f"Expected channels with a batch normalization behind them, by whose scale they are ranked. Received: "
                f"{group.name!r}, which has none. Leave it out of `layers`, or take another criterion."
            )
    if config.scope != "layer":
        for mask in masks:
            mask.group_size = len(masks)
    if config.scope in ("flops", "bytes"):
        masks[0].costs = _costs(config, flat, analysis, groups)
    for layer_name, found in slices.items():
        positions = sorted({position for position, _ in found})
        check_prunable(layers[layer_name], positions)
        for position in positions:
            check_criterion(config, inner_weights(layers[layer_name])[position])
    gathered = _gathered(config, flat, analysis, groups, evidence)

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


def _costs(
    config: PruneConfig, flat: keras.Model, analysis: Analysis, groups: Sequence[ChannelGroup]
) -> list[list[Any]]:
    """Return what each kernel and product of a model costs, and which units have which share of which of its axes."""
    axes: dict[tuple[str, int], dict[int, list[tuple[str, float]]]] = {}
    layers = {layer.name: layer for layer in flat.layers}
    for group in groups:
        for part in group.slices:
            length = inner_weights(layers[part.layer])[part.position].shape[part.axis]
            share = group.size * part.outer * part.inner / length
            axes.setdefault((part.layer, part.position), {}).setdefault(part.axis, []).append((group.name, share))
    costs: list[tuple[float, list[list[tuple[str, float]]]]] = [
        (
            price * math.prod(inner_weights(layers[name])[position].shape),
            list(axes.get((name, position), {}).values()),
        )
        for (name, position), price in unit_costs(flat, config.scope).items()
    ]
    for product in products(flat) if config.scope == "flops" else ():
        found = [_units_along(analysis, groups, *axis) for axis in product.axes]
        costs.append((float(product.count), [units for units in found if units]))
    fixed = least = 0.0
    table: list[list[Any]] = []
    sizes = {group.name: group.size for group in groups}
    for cost, of_one in costs:
        if of_one:
            table.append([cost, [[list(entry) for entry in axis] for axis in of_one]])
            least += cost * math.prod(1 - sum(share * (1 - 1 / sizes[unit]) for unit, share in axis) for axis in of_one)
        else:
            fixed += cost
    check_budget(config, (fixed + least) / (fixed + sum(cost for cost, _ in table)))
    return [*table, [fixed, []]]


def _units_along(analysis: Analysis, groups: Sequence[ChannelGroup], x: Any, axis: int) -> list[tuple[str, float]]:
    """Return which units lie along an axis of a tensor, and which share of it they have."""
    labels = analysis.axes[id(x)][axis]
    if labels is None:
        return []
    group_of, _ = analysis.channels
    indices = np.where(labels >= 0, group_of[labels], -1)
    shares = ((group.name, float(np.mean(indices == analysis.groups.index(group)))) for group in groups)
    return [(name, share) for name, share in shares if share]


def _gathered(
    config: PruneConfig,
    flat: keras.Model,
    analysis: Analysis,
    groups: Sequence[ChannelGroup],
    evidence: Evidence,
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
        found["activation_frequency"] = gather_frequencies(flat, analysis, groups, evidence)
    return found
