"""Under which name the tables know a layer, operation or activation."""

from __future__ import annotations

import types
from typing import Any

import keras

from tfcompress.core.passthrough import innermost


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
            return "" if _computes_otherwise(type(inner), cls) else plain_name(cls)
    return ""


_HARMLESS = ("build", "get_config", "from_config", "get_build_config", "build_from_config", "get_compile_config")
"""What a subclass may replace, beside what begins so, and compute the same: `call` asks for none of it."""


def _computes_otherwise(cls: type, base: type) -> bool:
    """Return whether a subclass replaces a method or property by which its base computes, as `convolution_op` is."""
    for part in cls.__mro__[: cls.__mro__.index(base)]:
        for name, value in vars(part).items():
            method = isinstance(value, types.FunctionType | property | staticmethod | classmethod)
            known = name.startswith(("__", "compute_", "save_", "load_")) or name in _HARMLESS
            if method and not known and hasattr(base, name):
                return True
    return False


def plain_name(function: Any) -> str:
    """Return a class's or function's name in small letters, "swish" and the like as "silu"."""
    name = getattr(function, "__name__", type(function).__name__).lower().replace("_", "")
    return {"swish": "silu", "hardswish": "hardsilu"}.get(name, name)
