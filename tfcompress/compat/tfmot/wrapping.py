"""Wrapping a layer that stands in a model, or that is yet to be put into one."""

from __future__ import annotations

from typing import Any, TypeVar

import keras

from tfcompress.core.keras_private import input_shape_given
from tfcompress.core.locking import no_warnings
from tfcompress.core.passthrough import PassThrough
from tfcompress.graph.clone import copy_layer

_Kind = TypeVar("_Kind", bound=PassThrough)


def around(layer: keras.layers.Layer, kind: type[_Kind], *args: Any, **kwargs: Any) -> _Kind:
    """Return a wrapper around a layer: of one that is built, around a copy.

    A Sequential that begins with the wrapper has the `input_shape` that it, or the layer, was given.

    Args:
        layer: Built or not.
        kind: Of the wrapper.
        *args: Of the wrapper, beside the layer.
        **kwargs: As `args`.
    """
    shape = input_shape_given(layer)
    if shape is not None:
        kwargs = {"input_shape": shape, **kwargs}
    if layer.built:
        layer = copy_layer(layer, layer.name)
    with no_warnings("Do not pass an `input_shape`"):
        return kind(layer, *args, **kwargs)
