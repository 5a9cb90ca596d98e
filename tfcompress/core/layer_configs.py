"""What a file of a model needs of its layers, and nothing else does: configurations that they can be made from."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from tfcompress.core.keras_private import any_code, flatten_layers

_CONFIGURE = (
    "Give it a `get_config` that returns all arguments of the constructor, and take `**kwargs` there for those of "
    "keras.layers.Layer; functions and classes of your own need @keras.saving.register_keras_serializable."
)


def configuration(layer: keras.layers.Layer) -> dict[str, Any]:
    """Return what `keras.saving.serialize_keras_object` makes of a layer.

    Raises:
        ValueError: If the layer, or a part of it, has no configuration; the message says which and why.

    Example:

    >>> configuration(keras.layers.Dense(2, name="dense"))["class_name"]
    'Dense'
    """
    try:
        made: dict[str, Any] = keras.saving.serialize_keras_object(layer)
    except Exception as error:
        fault = next(filter(None, map(_why_no_config, reversed(flatten_layers(layer)))), None)
        said, cause = fault or (layer, error)
        raise ValueError(
            f"Expected layers with a configuration, which a .keras file is made of. Received: layer {said.name!r} of "
            f"class {type(said).__name__}: {_reason(cause)}. {_CONFIGURE} Files for TFLite and ONNX need none "
            "(tfcompress.export)."
        ) from error
    return made


def check_configurations(model: keras.Model) -> None:
    """Raise ValueError if a file can't hold a model; warn if a layer of the user's own can't be made from the file.

    Raises:
        ValueError: As `configuration`.

    Warns:
        UserWarning: If a file could be written, and not be loaded.
    """
    for layer in flatten_layers(model, include_self=False):
        if isinstance(layer, keras.layers.InputLayer | keras.Model):
            continue
        configuration(layer)
        config = layer.get_config()
        try:
            with any_code():
                type(layer).from_config(config)
        except Exception as error:
            warnings.warn(
                f"Expected layers that a file can make again. Received: layer {layer.name!r} of class "
                f"{type(layer).__name__}: {_reason(error)}. The file holds the weights, but Keras can't load it. "
                f"{_CONFIGURE}",
                stacklevel=3,
            )


def _why_no_config(layer: keras.layers.Layer) -> tuple[keras.layers.Layer, Exception] | None:
    try:
        keras.saving.serialize_keras_object(layer)
    except Exception as error:
        return layer, error
    return None


def _reason(error: Exception) -> str:
    """Return what Keras says went wrong, without what it says of all such cases."""
    text = str(error).split("Exception encountered:")[-1].split("Please implement")[0].split("Please remove")[0]
    return " ".join(text.split()).rstrip(". ") or type(error).__name__
