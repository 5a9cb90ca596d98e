"""Masks on the kernels of a model, each by itself or with one budget for all."""

from __future__ import annotations

import dataclasses
import difflib
import math
import uuid
import warnings
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.layers import Layer

from tfcompress.channels.costs import products, uses
from tfcompress.core.error_messages import told
from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.transform import look, put, read
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import inner_weights, with_transforms
from tfcompress.graph import LayerChoice, kernel_positions, rebuild
from tfcompress.layers.kernel_layouts import Layout, is_depthwise, layout_of
from tfcompress.pruning.allocation import erdos_renyi, erdos_renyi_kernel
from tfcompress.pruning.gradient_statistics import Evidence, gather_gradients
from tfcompress.pruning.granularity import Block, NofM
from tfcompress.pruning.mask import Mask
from tfcompress.pruning.prune_config import PruneConfig
from tfcompress.pruning.running_statistics import GATHERED, Statistics


@dataclasses.dataclass(frozen=True)
class _Masked:
    layer: str
    position: int
    layout: Layout
    mask: Mask

    @property
    def size(self) -> int:
        return math.prod(self.layout.shape)


def prune_kernels(model: keras.Model, config: PruneConfig, choice: LayerChoice, evidence: Evidence) -> keras.Model:
    """Return a model whose kernels have masks; arguments and errors as of `prune`."""
    group = None if config.scope == "layer" else uuid.uuid4().hex
    costs = _Costs(model, config.scope) if config.scope in ("flops", "bytes") else None
    made: list[_Masked] = []
    free: list[str] = []

    def wrap(layer: Layer) -> Layer:
        if not choice.includes(layer):
            return layer
        positions = positions_for(layer, config)
        if not positions:
            if choice.names_it(layer):
                raise ValueError(
                    f"Expected layers with a kernel. Received: {layer.name!r} of class "
                    f"{type(layer).__name__}, which has nothing to prune. Leave it out of `{choice.argument}`."
                )
            return layer
        if costs is not None:
            positions = [position for position in positions if costs.unit_cost(layer.name, position)]
            if not positions:
                if choice.names_it(layer):
                    raise ValueError(
                        f"Expected layers with kernels that are multiplied, with scope='flops'. Received: "
                        f"{layer.name!r} of class {type(layer).__name__}, in which zeros save no multiplications. "
                        f"Leave it out of `{choice.argument}`, or take scope='bytes' or 'global'."
                    )
                free.append(layer.name)
                return layer
        check_prunable(layer, positions)
        masks = []
        for position in positions:
            mask = mask_for(layer, position, config, group, seed=len(made), given=evidence.data is not None)
            masks.append((position, mask))
            made.append(_Masked(layer.name, position, layout_of(layer, position), mask))
        return with_transforms(layer, masks)

    pruned = rebuild(model, wrap)
    choice.check()
    if not made:
        raise ValueError(
            f"Expected a model with layers to prune. Received: {model.name!r}, in which "
            + ("none has a kernel" if choice.all else f"none of {choice.argument}={choice.given!r} has a kernel")
            + (" that is multiplied." if free else ".")
        )
    if free:
        warnings.warn(
            f"In layer {', '.join(map(repr, free))} zeros save no multiplications: with scope='flops' it stays dense.",
            stacklevel=4,
        )
    if isinstance(config.units, NofM):
        _say_what_is_short(config.units, made)
    for one in made if group else ():
        one.mask.group_size = len(made)
    _set_shares(config, made)
    if costs is not None:
        _set_costs(config, made, costs)
    gathered = [name for name in config.needs if name in GATHERED]
    if gathered and evidence.data is not None:
        found = gather_gradients(model, gathered, evidence)
        for one in made:
            for name in gathered:
                put(one.mask.gathering.values[name], found[one.layer, one.position][name])
    return pruned


def positions_for(layer: Layer, config: PruneConfig) -> list[int]:
    """Return the positions of the weights that a configuration prunes."""
    positions = kernel_positions(layer)
    if not isinstance(config.granularity, NofM):
        return positions
    return [position for position in positions if not is_depthwise(layer, position)]


def mask_for(layer: Layer, position: int, config: PruneConfig, group: str | None = None, **how: Any) -> Mask:
    """Return a mask for one kernel of a built layer; raise ValueError if it has no such units.

    Args:
        layer: A layer or a wrapper of this package around one.
        position: Of the kernel in its weights.
        config: What is pruned and when.
        group: As of `Mask`.
        **how: Other arguments of `Mask`.
    """
    weight = inner_weights(layer)[position]
    mask = Mask(config, group, **how)
    if config.granularity != "element":
        layout = layout_of(layer, position)
        where = f"the {weight.name} of layer {layer.name!r}, of shape {layout.shape}"
        config.units.check(layout.matrices, where)
        mask.inputs, mask.outputs = layout.inputs, layout.outputs
    check_criterion(config, weight)
    return mask


def _say_what_is_short(pattern: NofM, made: Sequence[_Masked]) -> None:
    """Warn of kernels with fewer input channels than a group has, which get fewer zeros, or none."""
    rows = {one.layer: one.layout.matrices[1] for one in made if one.layout.matrices[1] < pattern.m}
    if rows:
        said = ", ".join(
            f"{name!r} ({count}: {max(1 - pattern.n / count, 0):.0%} zeros)" for name, count in rows.items()
        )
        warnings.warn(
            f"Fewer than {pattern.m} input channels, and so fewer zeros than {pattern} gives elsewhere: layer {said}.",
            stacklevel=5,
        )


def check_prunable(layer: Layer, positions: Sequence[int]) -> None:
    """Raise ValueError if a layer is pruned already, or as `check_weights`."""
    if isinstance(layer, CompressedLayer) and any(isinstance(t, Mask) for _, t in layer.transforms):
        raise ValueError(
            f"Expected layers that aren't pruned yet. Received: {layer.name!r}, which has a mask. "
            "Name other layers with `layers`, or call tfcompress.strip first."
        )
    check_weights(layer, positions)


def check_weights(layer: Layer, positions: Sequence[int]) -> None:
    """Raise ValueError if a layer's kernels aren't all of its weights, or aren't finite."""
    lora = next((part.name for part in flatten_layers(layer) if getattr(part, "lora_enabled", False)), None)
    if lora is not None:
        raise ValueError(
            f"Expected layers without LoRA, which would fill the zeros again. Received: {lora!r} with LoRA enabled. "
            "Merge it into the kernel first: save the model and load the weights into one without LoRA."
        )
    weights = inner_weights(layer)
    for position in positions:
        if not bool(np.all(np.isfinite(look(weights[position])))):
            raise ValueError(
                f"Expected finite weights. Received: {weights[position].path!r} of layer {layer.name!r}, which "
                "holds NaN or infinite values. Train or load the model anew."
            )


def check_criterion(config: PruneConfig, weight: keras.Variable) -> None:
    """Raise ValueError unless a user's criterion gives a score for each weight; it is tried with statistics of ones."""
    if isinstance(config.criterion, str):
        return
    name = getattr(config.criterion, "__name__", repr(config.criterion))
    ones = dict.fromkeys(config.needs, ops.ones(weight.shape, "float32"))
    try:
        scores = config.criterion(ops.convert_to_tensor(read(weight)), Statistics(**ones))
        shape, numbers = tuple(scores.shape), ops.convert_to_numpy(scores)
    except Exception as error:
        raise ValueError(
            f"Expected a criterion `scores = {name}(weights, statistics)`, marked by tfcompress.pruning.needs with the "
            f"statistics that it looks at. Received: one that fails on {weight.path!r}: {told(error)}"
        ) from error
    if shape != tuple(weight.shape) or np.isnan(numbers).any():
        raise ValueError(
            f"Expected a criterion that gives a number for each weight, here of the shape {tuple(weight.shape)}. "
            f"Received: {name}, which gives {'NaN' if shape == tuple(weight.shape) else f'the shape {shape}'}."
        )


def _set_shares(config: PruneConfig, made: Sequence[_Masked]) -> None:
    """Let each kernel reach a sparsity of its own, where the configuration says so."""
    if config.allocation == "uniform":
        return
    final = check_final(config)
    if isinstance(config.allocation, str):
        shapes = {f"{one.layer}/{one.position}": one.layout.plain for one in made}
        found = {"erdos_renyi": erdos_renyi, "erdos_renyi_kernel": erdos_renyi_kernel}[config.allocation](shapes, final)
        wanted = [found[f"{one.layer}/{one.position}"] for one in made]
    else:
        check_names(config.allocation, [one.layer for one in made])
        wanted = [config.allocation.get(one.layer, final) for one in made]
    for one, sparsity in zip(made, wanted, strict=True):
        one.mask.share = sparsity / final


def check_final(config: PruneConfig) -> float:
    """Return the sparsity at the schedule's end; raise ValueError if it is 0, and can't be divided among layers."""
    final = config.schedule.final()
    if not final:
        raise ValueError(
            f"Expected a schedule that ends above 0 with allocation={config.allocation!r}, which divides its sparsity "
            f"among the layers. Received: {config.schedule!r}."
        )
    return final


def check_names(given: Iterable[str], names: Sequence[str]) -> None:
    """Raise ValueError, with the nearest names, if a target's layer isn't among those that are pruned."""
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or list(names)[:8]
            raise ValueError(
                f"Expected `allocation` for layers that are pruned. Received: {name!r}, which is none. "
                f"Did you mean {' or '.join(map(repr, near))}?"
            )


class _Costs:
    """What a model costs, in multiplications for one sample or in bytes."""

    def __init__(self, model: keras.Model, scope: str):
        flat = rebuild(model, check=False)
        self.unit_costs = unit_costs(flat, scope)
        self.sizes = {
            (layer.name, position): math.prod(inner_weights(layer)[position].shape)
            for layer in flat.layers
            for position in kernel_positions(layer)
        }
        self.products = sum(product.count for product in products(flat)) if scope == "flops" else 0

    def unit_cost(self, layer: str, position: int) -> float:
        """Return what one weight of a kernel costs."""
        return self.unit_costs.get((layer, position), 0.0)

    def without(self, kernels: Collection[tuple[str, int]]) -> float:
        """Return what all costs but some kernels."""
        others = (self.unit_cost(*key) * size for key, size in self.sizes.items() if key not in kernels)
        return sum(others) + self.products


def _set_costs(config: PruneConfig, made: Sequence[_Masked], costs: _Costs) -> None:
    """Say what the units of each kernel cost, where there is a budget in multiplications or bytes."""
    block = config.granularity
    each = block.rows * block.cols if isinstance(block, Block) else 1
    fixed = costs.without({(one.layer, one.position) for one in made})
    total = fixed + sum(costs.unit_cost(one.layer, one.position) * one.size for one in made)
    check_budget(config, fixed / total)
    for one in made:
        one.mask.cost = costs.unit_cost(one.layer, one.position) * each
        one.mask.fixed = fixed


def unit_costs(model: keras.Model, scope: str) -> dict[tuple[str, int], float]:
    """Return what one weight of each kernel of a flat model costs: multiplications for one sample, or bytes."""
    if scope == "flops":
        return {key: float(count) for key, count in uses(model).items()}
    return {
        (layer.name, position): float(
            np.dtype(keras.backend.standardize_dtype(inner_weights(layer)[position].dtype)).itemsize
        )
        for layer in model.layers
        for position in kernel_positions(layer)
    }


def check_budget(config: PruneConfig, least: float) -> None:
    """Raise ValueError if what isn't pruned alone costs more than the schedule leaves at its end, if it has one."""
    final = config.schedule.known_final()
    if final is not None and least > 1.0 - final:
        raise ValueError(
            f"Expected a sparsity of at most {1.0 - least:.3g} with scope={config.scope!r}: what isn't pruned costs "
            f"{least:.1%} of the whole. Received: a schedule that ends at {final:.3g}. Take less, or more layers."
        )
