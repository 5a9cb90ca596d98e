"""tfmot's verbs of pruning: `prune_low_magnitude`, `strip_pruning`, `prune_scope`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import keras

from tfcompress.compat.tfmot.original import scope_with_original
from tfcompress.compat.tfmot.sparsity.keras import pruning_policy as policies
from tfcompress.compat.tfmot.sparsity.keras import pruning_schedule as schedules
from tfcompress.compat.tfmot.wrapping import around
from tfcompress.core.arguments import is_whole, short
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import with_transforms
from tfcompress.graph import kernel_positions, rebuild, strip
from tfcompress.layers.kernel_layouts import is_depthwise
from tfcompress.loading.keras2_packages import is_of_keras2, original_tfmot
from tfcompress.pruning.granularity import Block, Granularity, NofM
from tfcompress.pruning.kernel_pruning import check_prunable, mask_for
from tfcompress.pruning.mask import Mask
from tfcompress.pruning.prune_config import PruneConfig
from tfcompress.pruning.schedules import OneShot

DEFAULT = schedules.ConstantSparsity(0.5, 0)


def prune_low_magnitude(  # noqa: PLR0917  tfmot's arguments in tfmot's order
    to_prune: Any,
    pruning_schedule: Any = DEFAULT,
    block_size: Sequence[int] = (1, 1),
    block_pooling_type: str = "AVG",
    pruning_policy: Any = None,
    sparsity_m_by_n: Sequence[int] | None = None,
    **kwargs: Any,
) -> Any:
    """Return a model, or a layer, that prunes itself while it is trained, as tfmot's function of this name does.

    Masks are those of tfmot after the same training steps on the same weights; but here what is pruned stays pruned.
    Kernels of depthwise convolutions aren't pruned. No callback is needed. `tfcompress.prune` can do more.

    Args:
        to_prune: A built Keras 3 model of any kind, which isn't changed; a layer, built (it is copied) or not, also in
            the `clone_function` of `keras.models.clone_model`; or a list of layers. What is of tf_keras goes to tfmot.
        pruning_schedule: A `PruningSchedule`, whose first training step is 1; or one of tfcompress, whose first is 0.
        block_size: Rows (inputs) and columns (outputs) of the blocks of which all weights are pruned or none.
        block_pooling_type: "AVG" or "MAX" of a block's weights is what it counts.
        pruning_policy: A `PruningPolicy`: which layers of a model are pruned.
        sparsity_m_by_n: (2, 4): two zeros in each four weights that follow each other along the inputs. They are
            chosen in the first training step; the schedule doesn't count then.
        **kwargs: Of a layer: `name` and `input_shape`, for it.

    Returns:
        A functional model, not compiled; or a `tfcompress` wrapper with the layer's name.

    Raises:
        TypeError: If `to_prune` or the schedule is something else.
        ValueError: If the model isn't built, or an argument is out of its range.
    """
    if is_of_keras2(to_prune) or (isinstance(to_prune, list) and any(map(is_of_keras2, to_prune))):
        original = original_tfmot()
        return original.sparsity.keras.prune_low_magnitude(
            to_prune,
            pruning_schedule=schedules.for_keras2(pruning_schedule, original),
            block_size=block_size,
            block_pooling_type=block_pooling_type,
            pruning_policy=policies.for_keras2(pruning_policy, original),
            sparsity_m_by_n=sparsity_m_by_n,
            **kwargs,
        )
    config = _config(pruning_schedule, block_size, block_pooling_type, sparsity_m_by_n)
    if isinstance(to_prune, list):
        return [_layer(layer, config, {}) for layer in to_prune]
    if isinstance(to_prune, keras.Model):
        return _model(to_prune, config, pruning_policy)
    return _layer(to_prune, config, kwargs)


def strip_pruning(model: Any) -> Any:
    """Return a model of plain layers, whose weights are zero where they were pruned (`tfcompress.strip`).

    Args:
        model: With pruned layers, of Keras 3 or tf_keras.

    Raises:
        TypeError: If `model` is no model.
    """
    if is_of_keras2(model):
        return original_tfmot().sparsity.keras.strip_pruning(model)
    return strip(model)


def prune_scope() -> contextlib.AbstractContextManager[Any]:
    """Return a scope in which Keras finds what pruned models are made of; Keras 3 needs none."""
    return scope_with_original("sparsity", "prune_scope")


def _pair(name: str, value: Any, least: int) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, tuple | list) else ()
    if len(pair) != 2 or not all(is_whole(size) and size >= least for size in pair):
        raise ValueError(
            f"Expected `{name}` to be two whole numbers of at least {least}. Received: {name}={short(value)}."
        )
    return int(pair[0]), int(pair[1])


def _config(schedule: Any, block_size: Any, pooling: str, m_by_n: Any) -> PruneConfig:
    if m_by_n is not None:
        zeros, size = _pair("sparsity_m_by_n", m_by_n, 1)
        if zeros >= size:
            raise ValueError(
                "Expected `sparsity_m_by_n` to be (zeros, weights), with fewer zeros than weights. Received: "
                f"sparsity_m_by_n={short(m_by_n)}."
            )
        pattern = NofM(size - zeros, size)
        return PruneConfig(OneShot(pattern.sparsity, 0), granularity=pattern)
    block = Block(*_pair("block_size", block_size, 1), pooling)
    units: str | Granularity = "element" if (block.rows, block.cols) == (1, 1) else block
    return PruneConfig(schedules.counted_from_0(schedule), granularity=units)


def _positions(layer: keras.layers.Layer) -> list[int]:
    """Return the positions of the weights that tfmot prunes: kernels, but none of a depthwise convolution."""
    chosen = kernel_positions(layer)
    if hasattr(layer, "get_prunable_weights"):
        return chosen
    return [position for position in chosen if not is_depthwise(layer, position)]


def _masks(layer: keras.layers.Layer, config: PruneConfig) -> list[tuple[int, Mask]]:
    positions = _positions(layer)
    check_prunable(layer, positions)
    return [(position, mask_for(layer, position, config, seed=place)) for place, position in enumerate(positions)]


def _is_pruned(layer: Any) -> bool:
    return isinstance(layer, CompressedLayer) and any(isinstance(t, Mask) for _, t in layer.transforms)


def _model(model: keras.Model, config: PruneConfig, policy: Any) -> keras.Model:
    if policy is not None:
        policy.ensure_model_supports_pruning(model)

    def wrap(layer: keras.layers.Layer) -> keras.layers.Layer:
        if _is_pruned(layer) or (policy is not None and not policy.allow_pruning(layer)):
            return layer
        masks = _masks(layer, config)
        return with_transforms(layer, masks) if masks else layer

    return rebuild(model, wrap)


def _layer(layer: Any, config: PruneConfig, kwargs: dict[str, Any]) -> Any:
    if not isinstance(layer, keras.layers.Layer) or isinstance(layer, keras.Model):
        raise TypeError(
            "Expected `to_prune` to be a model, a layer or a list of layers, of Keras 3 or tf_keras. Received: "
            f"{short(layer)} of type {type(layer).__module__}.{type(layer).__name__}."
        )
    if _is_pruned(layer) or isinstance(layer, keras.layers.InputLayer):
        return layer
    return around(layer, CompressedLayer, lambda built: _masks(built, config), **kwargs)
