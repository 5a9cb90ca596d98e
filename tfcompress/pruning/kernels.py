"""Masks on the kernels of a model, each by itself or with one budget for all."""

from __future__ import annotations

import dataclasses
import difflib
import math
import uuid
from collections.abc import Iterable, Sequence

import keras
import numpy as np
from keras import ops
from keras.layers import Layer

from tfcompress.passthrough import PassThrough
from tfcompress.pruning.config import PruneConfig
from tfcompress.pruning.gathering import Evidence, gather_gradients
from tfcompress.pruning.granularity import Block, NofM
from tfcompress.pruning.layouts import layout_of
from tfcompress.pruning.mask import Mask
from tfcompress.pruning.statistics import GATHERED, Statistics
from tfcompress.pruning.targets import erdos_renyi, erdos_renyi_kernel
from tfcompress.surgery import LayerChoice, kernel_positions, rebuild
from tfcompress.transform import put, read
from tfcompress.wrapper import CompressedLayer, inner_weights, with_transforms


@dataclasses.dataclass(frozen=True)
class _Masked:
    layer: str
    position: int
    shape: tuple[int, ...]
    mask: Mask

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def prune_kernels(model: keras.Model, config: PruneConfig, choice: LayerChoice, evidence: Evidence) -> keras.Model:
    """Return a model whose kernels have masks; arguments and errors as of `prune`."""
    group = None if config.scope == "layer" else uuid.uuid4().hex
    made: list[_Masked] = []

    def wrap(layer: Layer) -> Layer:
        if not choice.includes(layer):
            return layer
        positions = positions_for(layer, config)
        if not positions:
            if choice.names_it(layer):
                raise ValueError(
                    f"Expected layers with a kernel. Received: {layer.name!r} of class "
                    f"{type(layer).__name__}, which has nothing to prune. Leave it out of `layers`."
                )
            return layer
        check_prunable(layer, positions)
        weights = inner_weights(layer)
        masks = []
        for position in positions:
            shape = tuple(weights[position].shape)
            layout = None if config.granularity == "element" else layout_of(layer, position)
            if layout is not None:
                config.units.check(
                    layout.matrices, f"the {weights[position].name} of layer {layer.name!r}, of shape {shape}"
                )
            mask = Mask(config, group, seed=len(made), given=evidence.data is not None)
            if layout is not None:
                mask.inputs, mask.outputs = layout.inputs, layout.outputs
            check_criterion(config, weights[position])
            masks.append((position, mask))
            made.append(_Masked(layer.name, position, shape, mask))
        return with_transforms(layer, masks)

    pruned = rebuild(model, wrap)
    choice.check()
    if not made:
        raise ValueError(
            f"Expected a model with layers to prune. Received: {model.name!r}, in which "
            + ("none has a kernel." if choice.all else f"none of layers={choice.given!r} has a kernel.")
        )
    for one in made if group else ():
        one.mask.group_size = len(made)
    _set_shares(config, made)
    _set_costs(config, made, pruned)
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
    inner = layer.innermost if isinstance(layer, PassThrough) else layer
    if isinstance(inner, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D):
        return []
    weights = inner_weights(layer)
    return [position for position in positions if weights[position].name != "depthwise_kernel"]


def check_prunable(layer: Layer, positions: Sequence[int]) -> None:
    """Raise ValueError if a layer is pruned already, fills zeros again, or has weights that aren't finite."""
    if isinstance(layer, CompressedLayer) and any(isinstance(t, Mask) for _, t in layer.transforms):
        raise ValueError(
            f"Expected layers that aren't pruned yet. Received: {layer.name!r}, which has a mask. "
            "Name other layers with `layers`, or call tfcompress.strip first."
        )
    lora = next((part.name for part in layer._flatten_layers() if getattr(part, "lora_enabled", False)), None)
    if lora is not None:
        raise ValueError(
            f"Expected layers without LoRA, which would fill the zeros again. Received: {lora!r} with LoRA enabled. "
            "Merge it into the kernel first: save the model and load the weights into one without LoRA."
        )
    weights = inner_weights(layer)
    for position in positions:
        if not bool(np.all(np.isfinite(read(weights[position])))):
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
            f"statistics that it looks at. Received: one that fails on {weight.path!r}: {str(error).splitlines()[0]}"
        ) from error
    if shape != tuple(weight.shape) or np.isnan(numbers).any():
        raise ValueError(
            f"Expected a criterion that gives a number for each weight, here of the shape {tuple(weight.shape)}. "
            f"Received: {name}, which gives {'NaN' if shape == tuple(weight.shape) else f'the shape {shape}'}."
        )


def _set_shares(config: PruneConfig, made: Sequence[_Masked]) -> None:
    """Let each kernel reach a sparsity of its own, where the configuration says so."""
    if config.targets == "uniform":
        return
    final = check_final(config)
    if isinstance(config.targets, str):
        shapes = {f"{one.layer}/{one.position}": one.shape for one in made}
        found = {"erdos_renyi": erdos_renyi, "erdos_renyi_kernel": erdos_renyi_kernel}[config.targets](shapes, final)
        wanted = [found[f"{one.layer}/{one.position}"] for one in made]
    else:
        check_names(config.targets, [one.layer for one in made])
        wanted = [config.targets.get(one.layer, final) for one in made]
    for one, sparsity in zip(made, wanted, strict=True):
        one.mask.share = sparsity / final


def check_final(config: PruneConfig) -> float:
    """Return the sparsity at the schedule's end; raise ValueError if it is 0, and can't be divided among layers."""
    final = config.schedule.final()
    if not final:
        raise ValueError(
            f"Expected a schedule that ends above 0 with targets={config.targets!r}, which divide its sparsity among "
            f"the layers. Received: {config.schedule!r}."
        )
    return final


def check_names(targets: Iterable[str], names: Sequence[str]) -> None:
    """Raise ValueError, with the nearest names, if a target's layer isn't among those that are pruned."""
    for name in targets:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or list(names)[:8]
            raise ValueError(
                f"Expected `targets` for layers that are pruned. Received: {name!r}, which is none. "
                f"Did you mean {' or '.join(map(repr, near))}?"
            )


def _set_costs(config: PruneConfig, made: Sequence[_Masked], pruned: keras.Model) -> None:
    """Say what the units of each kernel cost, where there is a budget in multiplications or bytes."""
    if config.scope not in ("flops", "bytes"):
        return
    prices = prices_of(pruned, config.scope)
    block = config.granularity
    each = block.rows * block.cols if isinstance(block, Block) else 1
    sizes = {
        (layer.name, position): math.prod(inner_weights(layer)[position].shape)
        for layer in pruned.layers
        for position in kernel_positions(layer)
    }
    mine = {(one.layer, one.position) for one in made}
    fixed = sum(prices.get(key, 0.0) * size for key, size in sizes.items() if key not in mine)
    total = fixed + sum(prices[one.layer, one.position] * one.size for one in made)
    check_budget(config, fixed / total)
    for one in made:
        one.mask.cost = prices[one.layer, one.position] * each
        one.mask.fixed = fixed


def prices_of(model: keras.Model, scope: str) -> dict[tuple[str, int], float]:
    """Return what one weight of each kernel of a flat model costs: multiplications for one sample, or bytes."""
    if scope == "flops":
        from tfcompress.surgery.costs import uses

        return {key: float(count) for key, count in uses(model).items()}
    return {
        (layer.name, position): float(
            np.dtype(keras.backend.standardize_dtype(inner_weights(layer)[position].dtype)).itemsize
        )
        for layer in model.layers
        for position in kernel_positions(layer)
    }


def check_budget(config: PruneConfig, least: float) -> None:
    """Raise ValueError if what isn't pruned alone costs more than the schedule leaves at its end."""
    final = config.schedule.final()
    if least > 1.0 - final:
        raise ValueError(
            f"Expected a sparsity of at most {1.0 - least:.3g} with scope={config.scope!r}: what isn't pruned costs "
            f"{least:.1%} of the whole. Received: a schedule that ends at {final:.3g}. Take less, or more layers."
        )
