"""What a layer, operation or activation is: the name under which the catalogue knows it."""

from __future__ import annotations

import types
from typing import Any

import keras

from tfcompress.core.passthrough import innermost

NAMES: dict[type, str] = {}
"""The name of each class that was registered (see `tfcompress.layers.register`)."""

_LIBRARIES = ("keras", "tf_keras", "tensorflow", "jax", "torch")


def name_of(operation: Any) -> str:
    """Return the name under which the catalogue knows a layer or operation; "" if it isn't known to be in it.

    A class that is neither Keras' nor registered is what it derives from if it adds nothing to what that computes.

    >>> import keras
    >>> name_of(keras.layers.Activation("leaky_relu")), name_of(keras.layers.LeakyReLU())
    ('leakyrelu', 'leakyrelu')
    """
    inner = innermost(operation)
    if isinstance(inner, keras.layers.Activation):
        return name_of_function(inner.activation)
    cls = described_class(inner)
    if cls is None or _computes_otherwise(type(inner), cls):
        return ""
    name = NAMES.get(cls) or plain_name(cls)
    # The operation of that name is a weighted mean over an axis.
    return "weightedaverage" if name == "average" and not isinstance(inner, keras.layers.Layer) else name


def is_of_keras(thing: Any) -> bool:
    """Return whether the class of a layer, operation or model is Keras' own."""
    return is_keras(type(thing))


def is_keras(cls: type) -> bool:
    """Return whether a class is Keras' own."""
    return cls.__module__.startswith("keras.")


def described_class(operation: Any) -> type | None:
    """Return the nearest class of a layer or operation, itself or one it derives from, that is Keras' or registered."""
    classes = type(operation).__mro__
    return next((cls for cls in classes if cls in NAMES or is_keras(cls)), None)


def base_name_of(operation: Any) -> str:
    """Return the name of the nearest class that an operation derives from, whatever it computes otherwise.

    It tells what its weights and attributes are, where `name_of` tells what is computed with them.
    """
    cls = described_class(operation)
    return "" if cls is None else NAMES.get(cls) or plain_name(cls)


def is_registered(layer: Any) -> bool:
    """Return whether a layer is of a class that was registered, or of one that adds nothing to what that computes."""
    cls = described_class(layer)
    return cls in NAMES and not _computes_otherwise(type(layer), cls)


def name_of_function(function: Any) -> str:
    """Return the name of an activation; "" for a function of the user's own, whatever it is called.

    >>> import keras
    >>> def relu(x): return x
    >>> name_of_function(keras.activations.relu), name_of_function(relu)
    ('relu', '')
    """
    module = getattr(function, "__module__", None) or type(function).__module__
    return plain_name(function) if module.split(".")[0] in _LIBRARIES else ""


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
