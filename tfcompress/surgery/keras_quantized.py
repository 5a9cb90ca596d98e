"""Layers that Keras itself has quantized (`model.quantize("int8")`): no verb of ours can change them."""

from __future__ import annotations

from typing import Any

import keras


def mode_of(layer: Any) -> str | None:
    """Return how Keras itself quantized a layer, "int8"; None: not."""
    return getattr(layer, "quantization_mode", None)


def by_mode(model: keras.Model) -> dict[str, list[str]]:
    """Return {mode: names of the layers of a model that Keras itself quantized so}."""
    found: dict[str, list[str]] = {}
    for layer in model._flatten_layers(include_self=False):
        mode = mode_of(layer)
        if mode is not None and not (
            isinstance(layer, keras.Model) and any(map(mode_of, layer._flatten_layers(False)))
        ):
            found.setdefault(mode, []).append(layer.name)
    return found


def listed(model: keras.Model) -> str:
    """Return "layer 'a', quantized by Keras itself (int8)" for the layers of a model; "" if there are none."""
    parts = [
        f"layer{'s' * (len(names) > 1)} {', '.join(map(repr, names))}, quantized by Keras itself ({mode})"
        for mode, names in by_mode(model).items()
    ]
    return "; ".join(parts)


def check_floats(model: Any, verb: str) -> None:
    """Refuse a model that Keras itself has quantized.

    Args:
        model: Anything; what is no Keras model passes.
        verb: What to do with the model from before: "Prune".

    Raises:
        ValueError: If it has such layers; they are named.
    """
    found = listed(model) if isinstance(model, keras.Model) else ""
    if found:
        raise ValueError(
            f"Expected a model with float weights. Received: {found}. {verb} the model from before that; it can be "
            "exported as it is."
        )
