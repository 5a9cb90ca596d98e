"""What a layer or operation of a graph is, as far as its precision goes."""

from __future__ import annotations

from typing import Any

import keras
from keras.layers import Layer

from tfcompress.precision.policies import HALVES


def is_preprocessing(layer: Any) -> bool:
    """Return whether a layer is one of Keras' for preprocessing and augmentation, or derived from one."""
    modules = (cls.__module__ for cls in type(layer).__mro__)
    return ".layers.preprocessing." in next(module for module in modules if module.startswith("keras."))


def has_policy(operation: Any) -> bool:
    """Return whether a layer computes in floats whose precision is to be chosen: not in integers or float64."""
    return isinstance(operation, Layer) and operation.compute_dtype in ("float32", *HALVES)


def dtype_of(x: Any) -> str:
    """Return the name of a tensor's dtype, symbolic or not."""
    return str(keras.backend.standardize_dtype(x.dtype))
