"""Functions of real numbers that a format lacks, by others that it has."""

from __future__ import annotations

import math
from typing import Any


def logarithm(op: Any) -> Any:
    """Return log(1 + x), as exact for small x: the logarithm is corrected by what 1 + x lost of x."""
    import tensorflow as tf

    x = op.inputs[0]
    one = tf.ones_like(x)
    above = one + x
    kept = above - one
    nothing = tf.equal(kept, tf.zeros_like(x))
    corrected = tf.math.log(above) * (x / tf.where(nothing, one, kept))
    return [tf.where(nothing, x, tf.where(x < 1e3, corrected, tf.math.log(above)))]


def exponential(op: Any) -> Any:
    """Return exp(x) - 1, as exact for small x: tanh(x / 2) is that over exp(x) + 1."""
    import tensorflow as tf

    x = op.inputs[0]
    return [tf.tanh(0.5 * x) * (tf.exp(x) + 1.0)]


def hyperbolic(op: Any) -> Any:
    """Return the hyperbolic sine or cosine."""
    import tensorflow as tf

    x = op.inputs[0]
    up, down = tf.exp(x), tf.exp(-x)
    if op.type == "Cosh":
        return [0.5 * (up + down)]
    low = tf.clip_by_value(x, -1.0, 1.0)
    less = tf.math.expm1(low)
    return [tf.where(tf.abs(x) < 1.0, 0.5 * (less + less / (less + 1.0)), 0.5 * (up - down))]


def tangent(op: Any) -> Any:
    """Return the tangent."""
    import tensorflow as tf

    return [tf.sin(op.inputs[0]) / tf.cos(op.inputs[0])]


def error_function(op: Any) -> Any:
    """Return the error function by the exact GELU, x * (1 + erf(x / sqrt(2))) / 2, which is one operator."""
    import tensorflow as tf

    x = op.inputs[0]
    if op.get_attr("T") != tf.float32 or any(_of_gelu(reader) for reader in op.outputs[0].consumers()):
        return None
    small = tf.abs(x) < 1e-2
    wide = tf.where(small, tf.ones_like(x), math.sqrt(2.0) * x)
    series = 2.0 / math.sqrt(math.pi) * (x - x * x * x / 3.0)
    erf = tf.where(small, series, 2.0 * tf.nn.gelu(wide, approximate=False) / wide - 1.0)
    return [erf if op.type == "Erf" else 1.0 - erf]


def finite(op: Any) -> Any:
    """Return whether numbers are infinite, or finite, by their size: TFLite's converter compares with infinity."""
    import tensorflow as tf

    x = op.inputs[0]
    if x.dtype != tf.float32:
        return None
    largest = tf.constant(tf.float32.max)
    return [tf.abs(x) > largest if op.type == "IsInf" else tf.abs(x) <= largest]


def _of_gelu(reader: Any) -> bool:
    """Return whether an operation may be the next one of a GELU, which the converter knows as a whole."""
    return reader.type in ("Mul", "AddV2", "Add")


RULES: dict[str, dict[str, tuple[Any, ...]]] = {
    "tflite": {
        **dict.fromkeys(("Sinh", "Cosh"), (hyperbolic,)),
        "Tan": (tangent,),
        **dict.fromkeys(("IsInf", "IsFinite"), (finite,)),
        **dict.fromkeys(("Erf", "Erfc"), (error_function,)),
    },
    "onnx": {"Log1p": (logarithm,), "Expm1": (exponential,)},
}
