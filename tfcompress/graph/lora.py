"""Low-rank additions to weights (`layer.enable_lora`), made part of the weights."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from tfcompress.core.keras_private import flatten_layers, unlocked, weight_under_lora


def merge_lora(layers: Iterable[keras.layers.Layer]) -> list[str]:
    """Add the low-rank products of layers to their weights, and take them out.

    Args:
        layers: Those of a copy that is ours: they are changed, and compute the same.

    Returns:
        The names of the layers that had one.

    Example:

    >>> import keras, numpy as np
    >>> dense = keras.layers.Dense(4)
    >>> model = keras.Sequential([keras.Input((3,)), dense])
    >>> dense.enable_lora(2)
    >>> _ = dense.lora_kernel_b.assign(np.ones((2, 4)))
    >>> before = model(np.ones((1, 3), "float32"))
    >>> merge_lora(model.layers) == [dense.name], len(dense.weights)
    (True, 2)
    >>> bool(np.allclose(model(np.ones((1, 3), "float32")), before, atol=1e-6))
    True
    """
    names = []
    for layer in (part for outer in layers for part in flatten_layers(outer)):
        if not getattr(layer, "lora_enabled", False):
            continue
        kind = "embeddings" if hasattr(layer, "lora_embeddings_a") else "kernel"
        weight = weight_under_lora(layer, kind)
        weight.assign(getattr(layer, kind))  # the property adds the product
        weight.trainable = layer.trainable
        with unlocked(layer):
            for side in ("a", "b"):
                delattr(layer, f"lora_{kind}_{side}")
        layer.lora_enabled = False
        layer.lora_rank = layer.lora_alpha = None
        names.append(layer.name)
    return names
