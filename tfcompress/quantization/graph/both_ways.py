"""Bidirectional LSTMs as what they are made of: two layers, whose outputs are merged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from tfcompress.graph.clone import has_mask
from tfcompress.graph.rewrite import Call
from tfcompress.layers.fused_lstm import why_not_fused

Tensor = Any

_MERGING = {"sum": layers.Add, "mul": layers.Multiply, "ave": layers.Add}


def can_split(layer: Any, call: Call) -> bool:
    """Return whether a call of a Bidirectional is one of two LSTMs that have integer kernels.

    Args:
        layer: The Bidirectional.
        call: Of it, or of the wrapper around it.
    """
    kernels = all(why_not_fused(part) is None for part in (layer.forward_layer, layer.backward_layer))
    masked = has_mask(call.inputs) or call.keywords.get("mask") is not None
    states = layer.stateful or layer.return_state or len(call.inputs) > 1
    free = call.inputs[0].shape[1] is None
    return type(layer) is layers.Bidirectional and kernels and not (masked or states or free)


def parts_of(layer: keras.layers.Bidirectional, name: Callable[[str], str]) -> tuple[Any, Any]:
    """Return the two layers, with names of their own and their weights.

    Args:
        layer: It isn't used any more.
        name: Makes a name that is free of the one that is wanted.
    """
    parts = (layer.forward_layer, layer.backward_layer)
    for part, way in zip(parts, ("forward", "backward"), strict=True):
        part.name = name(f"{layer.name}_{way}")
        part.source_names = (layer.name, *getattr(layer, "source_names", ()))
        part.trainable = part.trainable and layer.trainable
    return parts


def merged(layer: keras.layers.Bidirectional, parts: tuple[Any, Any], x: Tensor, name: Callable[[str], str]) -> Any:
    """Return what the layer makes of a tensor, by its two layers."""
    forward, backward = (part(x) for part in parts)
    if layer.return_sequences:
        backward = ops.flip(backward, axis=1)
    if layer.merge_mode is None:
        return forward, backward
    if layer.merge_mode == "concat":
        return layers.Concatenate(name=name(f"{layer.name}_both"), dtype=layer.dtype_policy)([forward, backward])
    made = _MERGING[layer.merge_mode](name=name(f"{layer.name}_both"), dtype=layer.dtype_policy)([forward, backward])
    if layer.merge_mode == "ave":
        made = layers.Rescaling(0.5, name=name(f"{layer.name}_mean"), dtype=layer.dtype_policy)(made)
    return made
