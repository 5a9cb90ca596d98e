"""Arithmetic with constants as an affine map."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from tfcompress.graph.rewrite import Call
from tfcompress.layers.names import plain_name


def constant_map(call: Call) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (scale, offset), scalars or one value for each channel, of `x + c`, `x - c`, `c - x`, `x * c`, `x / c`.

    `None` if the call is something else.
    """
    name = plain_name(type(call.operation))
    if name not in ("add", "subtract", "multiply", "divide", "truedivide") or len(call.inputs) != 1:
        return None
    if isinstance(call.operation, keras.layers.Layer) or len(call.arguments) != 2:
        return None
    tensor_first = keras.utils.is_keras_tensor(call.arguments[0])
    value = _per_channel(call.arguments[1 if tensor_first else 0], call.inputs[0].shape[-1])
    if value is None:
        return None
    one, zero = np.ones_like(value), np.zeros_like(value)
    if name in ("divide", "truedivide"):
        return (1.0 / value, zero) if tensor_first and np.all(value != 0) else None
    return {
        "add": (one, value),
        "subtract": (one, -value) if tensor_first else (-one, value),
        "multiply": (value, zero),
    }[name]


def _per_channel(constant: Any, channels: int | None) -> np.ndarray | None:
    """Return a constant as a scalar or one value for each channel, float64; `None` if it is neither."""
    if isinstance(constant, keras.Variable) or keras.utils.is_keras_tensor(constant):
        return None
    value = np.asarray(constant)
    if value.dtype.kind not in "fiu" or math.prod(value.shape[:-1]) != 1:
        return None
    if (value.shape or (1,))[-1] not in (1, channels):
        return None
    return value.astype(np.float64).reshape(-1 if value.size > 1 else ())
