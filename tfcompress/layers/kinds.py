"""Under which name the rules of channels and precision know a layer or operation."""

from __future__ import annotations

from typing import Any

import keras

from tfcompress.core.passthrough import innermost


def kind_of(operation: Any) -> str:
    """Return the name of what a layer or operation of Keras computes, in small letters; "" if it isn't Keras' own.

    Example:

    >>> kind_of(keras.layers.LeakyReLU()), kind_of(keras.layers.Activation("leaky_relu"))
    ('leakyrelu', 'leakyrelu')
    """
    inner = innermost(operation)
    if isinstance(inner, keras.layers.Activation):
        return plain_name(inner.activation)
    for cls in type(inner).__mro__:
        if cls.__module__.startswith("keras."):
            own = any(getattr(type(inner), name, None) is not getattr(cls, name, None) for name in ("call", "build"))
            name = "" if own else plain_name(cls)
            # The operation of that name is a weighted mean over an axis.
            return "weightedaverage" if name == "average" and not isinstance(inner, keras.layers.Layer) else name
    return ""


def plain_name(function: Any) -> str:
    """Return the name of a class or function of Keras in small letters; "" for what isn't Keras' own."""
    if not getattr(function, "__module__", type(function).__module__).startswith("keras."):
        return ""
    return str(getattr(function, "__name__", type(function).__name__)).lower().replace("_", "")
