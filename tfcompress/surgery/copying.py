"""A new layer like a given one, with its weights."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import keras
from keras import tree
from keras.layers import Layer
from keras.src.saving.serialization_lib import SafeModeScope

from tfcompress.passthrough import PassThrough, has_no_build
from tfcompress.transform import carry


def copy_layer(
    layer: Layer,
    name: str,
    args: Any = (),
    kwargs: dict[str, Any] | None = None,
    configure: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Layer:
    """Return a new layer of the same class, configuration and weights.

    Args:
        layer: A built layer.
        name: The new layer's name.
        args: Symbolic tensors that the layer is called with; a layer that makes its weights only when it
            is called is called with them once.
        kwargs: Keyword arguments of that call.
        configure: `configure(config)` returns the configuration that the new layer is made from, wrappers' apart.

    Raises:
        ValueError: If the layer can't be made again from its `get_config`, or comes out with other weights.
    """
    if isinstance(layer, PassThrough):
        inner = copy_layer(layer.layer, layer.layer.name, args, kwargs, configure)
        wrapper = layer.rewrap(inner)
        wrapper.build()
        copy_state(layer, wrapper)
        return wrapper
    try:
        config = configure(layer.get_config())
        if "name" in config:
            config["name"] = name
        with SafeModeScope(False):  # what the layer holds is in this process already
            new = type(layer).from_config(config)
        new.name = name
    except Exception as error:
        raise ValueError(
            f"Expected a layer that can be made again from its configuration. Received: layer {layer.name!r} of "
            f"class {type(layer).__name__}: {_first_line(error)}. Give the class a `get_config` that returns "
            "all arguments of its constructor (and, if these hold layers, a `from_config`)."
        ) from error
    if layer.built and not new.built and not has_no_build(layer):
        new.build_from_config(layer.get_build_config() or {})
    if not new.built or len(new.variables) != len(layer.variables):
        new(*args, **(kwargs or {}))
    old_shapes = [tuple(v.shape) for v in layer.variables]
    new_shapes = [tuple(v.shape) for v in new.variables]
    if new_shapes and not old_shapes:
        raise ValueError(
            f"Expected a built model. Received: one whose layer {layer.name!r} has no weights yet. "
            "Call the model once on a batch of data."
        )
    if old_shapes != new_shapes:
        raise ValueError(
            f"Expected the copy of layer {layer.name!r} of class {type(layer).__name__} to have weights of the "
            f"shapes {old_shapes}. Received: {new_shapes}. Its `get_config` or `build` doesn't give the same layer."
        )
    copy_state(layer, new)
    return new


def copy_state(source: Layer, target: Layer) -> None:
    """Give `target` the values of all variables, vocabularies and `trainable` flags of `source`."""
    for old, new in zip(source.variables, target.variables, strict=True):
        carry(old, new)
    for old, new in zip(source._flatten_layers(), target._flatten_layers(), strict=True):
        if old._trainable != new._trainable:
            new._trainable = old._trainable
        if type(old).__module__.startswith("keras.") and hasattr(old, "save_assets"):
            with tempfile.TemporaryDirectory() as folder:
                old.save_assets(folder)
                new.load_assets(folder)
        for state, copy in zip(
            tree.flatten(getattr(old, "states", None)), tree.flatten(getattr(new, "states", None)), strict=False
        ):
            if isinstance(state, keras.Variable) and isinstance(copy, keras.Variable):
                carry(state, copy)  # of a stateful recurrent layer; no variable of the layer
        if hasattr(new, "finalize_state"):
            new.finalize_state()
    for old, new in zip(source.variables, target.variables, strict=True):
        if hasattr(old, "trainable") and old.trainable != new.trainable:
            new.trainable = old.trainable


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
    return any(getattr(tensor, "_keras_mask", None) is not None for tensor in tree.flatten(x))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
