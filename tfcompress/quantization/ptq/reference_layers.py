"""Layers of a quantized model beside those of the float model that it was made of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
from keras import layers as L

from tfcompress.core.passthrough import innermost


def names_of(layer: L.Layer) -> set[str]:
    """Return the names that a layer may have in the float model, where its parts may be one layer still."""
    names = {layer.name, innermost(layer).name}
    for part in ("_linear", "_pointwise"):  # what is behind an activation or a depthwise convolution of its own
        names |= {name.removesuffix(part) for name in names}
    return names


@contextlib.contextmanager
def linear(layer: L.Layer) -> Iterator[None]:
    """Leave the activation of a layer out for the time of the block."""
    attributes = vars(innermost(layer))
    if attributes.get("activation") is None:
        yield
        return
    activation = attributes["activation"]
    attributes["activation"] = keras.activations.linear
    try:
        yield
    finally:
        attributes["activation"] = activation
