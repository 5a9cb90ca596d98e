"""A new layer like a given one, with its weights."""

from __future__ import annotations

from typing import Any

import keras
from keras import tree
from keras.layers import Layer

from tfcompress.core.error_messages import told
from tfcompress.core.keras_private import keras_mask, set_path, sublayers
from tfcompress.core.passthrough import PassThrough
from tfcompress.graph.copy_objects import Copies


def copy_layer(
    layer: Layer, name: str, args: Any = (), kwargs: dict[str, Any] | None = None, copies: Copies | None = None
) -> Layer:
    """Return a new layer like a built one, with its weights.

    Args:
        layer: The layer.
        name: The new layer's name.
        args: Symbolic tensors that the layer is called with.
        kwargs: Keyword arguments of that call.
        copies: Those of other layers of the same model.

    Raises:
        ValueError: If the layer isn't built, or holds something that can't be copied.
    """
    try:
        new = (copies or Copies()).of(layer)
    except Exception as error:
        raise ValueError(
            f"Expected a layer that can be copied. Received: layer {layer.name!r} of class {type(layer).__name__}: "
            f"{told(error)}"
        ) from error
    wraps = isinstance(layer, keras.layers.Wrapper | keras.layers.Bidirectional)
    for old, part in ((layer, new), *(zip(sublayers(layer), sublayers(new), strict=True) if wraps else ())):
        _name_weights(part, old.name, name if old is layer else old.name)
    part = new
    part.name = name
    while isinstance(part, PassThrough):
        part = part.layer
        part.name = name
    if not new.built:
        new(*args, **(kwargs or {}))
        if len(new.variables) > len(layer.variables):
            raise ValueError(
                f"Expected a built model. Received: one whose layer {layer.name!r} has no weights yet. "
                "Call the model once on a batch of data."
            )
    return new


def _name_weights(layer: Layer, old: str, new: str) -> None:
    """Give the weights of a layer the paths that they have where the layer stands alone, as one from a file does."""
    for variable in layer.variables:
        _, found, own = f"/{variable.path}".partition(f"/{old}/")
        if found:
            set_path(variable, f"{new}/{own}")


def autocast(layer: Layer, x: Any) -> Any:
    """Return a symbolic tensor as `layer` casts what it is called with."""
    if not keras.utils.is_keras_tensor(x) or not layer.autocast:
        return x
    floats = ("float16", "bfloat16", "float32", "float64")
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype in floats and layer.compute_dtype in floats and dtype != layer.compute_dtype:
        return keras.ops.cast(x, layer.compute_dtype)
    return x


def has_mask(x: Any) -> bool:
    """Return whether a Keras mask is attached to any tensor of a structure."""
    return any(keras_mask(tensor) is not None for tensor in tree.flatten(x))
