"""Under which name the tables know a layer, operation or activation."""

from __future__ import annotations

from typing import Any

import keras

from tfcompress.passthrough import innermost


def name_of(operation: Any) -> str:
    """Return the name under which `RULES` knows a layer or operation.

    >>> import keras
    >>> name_of(keras.layers.Activation("leaky_relu")), name_of(keras.layers.LeakyReLU())
    ('leakyrelu', 'leakyrelu')
    """
    inner = innermost(operation)
    if isinstance(inner, keras.layers.Activation):
        return plain_name(inner.activation)
    for cls in type(inner).__mro__:  # a subclass that adds nothing to the computation is what it derives from
        if cls.__module__.startswith("keras."):
            computing = ("call", "transform_images")  # the second is what `call` of an augmentation calls
            same = all(getattr(type(inner), what, None) is getattr(cls, what, None) for what in computing)
            return plain_name(cls) if same else ""
    return ""


def plain_name(function: Any) -> str:
    """Return a class's or function's name in small letters, "swish" and the like as "silu"."""
    name = getattr(function, "__name__", type(function).__name__).lower().replace("_", "")
    return {"swish": "silu", "hardswish": "hardsilu"}.get(name, name)
