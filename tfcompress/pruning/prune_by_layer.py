"""Pruning with a config for each layer: the layers of one key after those of another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from tfcompress.core.wrapper import wrapped_layers
from tfcompress.data.model_batches import again
from tfcompress.graph import LayerChoice, rebuild
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.pruning.gradient_statistics import Evidence
from tfcompress.pruning.granularity import STRUCTURES
from tfcompress.pruning.mask import Mask
from tfcompress.pruning.prune_config import PruneConfig

One = Callable[[keras.Model, PruneConfig, LayerChoice, Evidence], keras.Model]


def prune_by_layer(
    model: keras.Model,
    configs: LayerConfigs,
    *,
    read: Callable[[Any], PruneConfig],
    choice: LayerChoice,
    evidence: Evidence,
    one: One,
) -> keras.Model:
    """Return a model whose layers are pruned as the first key that matches each says.

    Args:
        model: Built.
        configs: A config for each layer.
        read: Makes a `PruneConfig` of a value.
        choice: Which layers are looked at.
        evidence: For the criteria that look at data; the others get none.
        one: Prunes the layers of one key.

    Raises:
        ValueError: As `prune`; or if a budget is of the whole model where there are several configs, if data is given
            that no criterion looks at, or if channels of one key are read by kernels that another key prunes.
    """
    flat = rebuild(model)
    resolved = configs.resolve(flat.layers, read, choice)
    # Whole channels first: their masks reach into the kernels that read them.
    entries = sorted(resolved.choices(), key=lambda entry: entry[0].granularity not in STRUCTURES)
    if not entries:
        raise ValueError("Expected a config for some layer. Received: None for all that `config` matches.")
    for config, _ in entries if len(entries) > 1 else ():
        if config.scope in ("flops", "bytes"):
            raise ValueError(
                "Expected scope='layer' or 'global' where `config` has several configs: with 'global' the layers of "
                f"one key share a budget, while that of {config.scope!r} is of the whole model. Received: "
                f"scope={config.scope!r} beside {len(entries) - 1} more. Take one config, and layers= for what it is "
                "for."
            )
    evidence = dataclasses.replace(evidence, data=again(evidence.data))
    looking = [config for config, _ in entries if any(name != "scale" for name in config.needs)]
    if evidence.data is not None and not looking:
        looking = [entries[0][0]]  # which says that it needs none
    for config, meant in entries:
        _check_free(flat, meant)
        given = evidence if config in looking else dataclasses.replace(evidence, data=None)
        flat = one(flat, config, meant, given)
    return flat


def _check_free(model: keras.Model, choice: LayerChoice) -> None:
    """Raise ValueError if the channels of an earlier key are read by kernels of this one."""
    for layer in wrapped_layers(model):
        masks = [t for _, t in layer.transforms if isinstance(t, Mask)]
        if masks and choice.includes(layer) and masks[0].config.granularity in STRUCTURES:
            raise ValueError(
                f"Expected kernels that one key prunes. Received: {layer.name!r}, which reads channels that another "
                "key removes, and whose kernel is masked for these. Give it None, or the config of these channels."
            )
