"""Layers that Keras itself has quantized (`model.quantize("int8")`): no verb of ours can change them."""

from __future__ import annotations

from typing import Any

import keras

from tfcompress.core.keras_private import flatten_layers


def mode_of(layer: Any) -> str | None:
    """Return how Keras itself quantized a layer, "int8"; None: not."""
    return getattr(layer, "quantization_mode", None)


def by_mode(model: keras.Model) -> dict[str, list[str]]:
    """Return {mode: names of the layers of a model that Keras itself quantized so}."""
    found: dict[str, list[str]] = {}
    for layer in flatten_layers(model, include_self=False):
        mode = mode_of(layer)
        if mode is not None and not (
            isinstance(layer, keras.Model) and any(map(mode_of, flatten_layers(layer, False)))
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


FLOAT8 = "float8"
"""The mode whose layers keep float weights, can be trained, and that no file format takes."""


def check_floats(model: Any, verb: str) -> None:
    """Refuse a model that Keras itself has quantized.

    Args:
        model: Anything; what is no Keras model passes.
        verb: What to do with the model from before: "Prune".

    Raises:
        ValueError: If it has such layers; they are named.
    """
    if isinstance(model, keras.Model) and (modes := by_mode(model)):
        raise ValueError(
            f"Expected a model with float weights. Received: {listed(model)}. {verb} the model from before that; "
            + ("float8 is for training alone." if FLOAT8 in modes else "it can be exported as it is.")
        )


def check_trains(student: keras.Model) -> None:
    """Refuse a model to train whose kernels Keras itself has made integers.

    Raises:
        ValueError: If it has such layers without low-rank additions, which can be trained; they are named.
    """
    frozen = [
        layer
        for layer in flatten_layers(student, include_self=False)
        if mode_of(layer) not in (None, FLOAT8) and not getattr(layer, "lora_enabled", False)
    ]
    if frozen:
        raise ValueError(
            f"Expected a student that can be trained. Received: {listed(student)}, whose kernels are integers. Take "
            "the student from before that; a teacher may be so quantized."
        )


def check_exports(model: keras.Model) -> None:
    """Refuse a model with layers in float8, of which neither file format nor its runtime knows anything.

    Raises:
        ValueError: If it has such layers; they are named.
    """
    if FLOAT8 in by_mode(model):
        raise ValueError(
            f"Expected a model whose numbers TFLite and ONNX have. Received: {listed(model)}. Make the model again in "
            "float32, give each layer its kernel and bias from this one (layer.kernel.assign), and export that."
        )
