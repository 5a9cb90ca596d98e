"""Gradients on either backend, and where in the tracing of a function one is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

Tensor = Any


def value_and_gradients(
    function: Callable[[Sequence[Tensor]], tuple[Tensor, Any]], values: Sequence[Tensor]
) -> tuple[Tensor, Any, list[Tensor]]:
    """Return `function(values)` and the gradients of what it returns first.

    Args:
        function: Returns a float32 scalar and anything else.
        values: Float tensors.

    Returns:
        The scalar, the rest, and a dense gradient for each of `values`: zeros where the scalar doesn't depend on it.

    Example:

    >>> value, rest, (slope,) = value_and_gradients(lambda v: (v[0] ** 2, "rest"), [keras.ops.array(3.0)])
    >>> float(value), rest, float(slope)
    (9.0, 'rest', 6.0)
    """
    if keras.backend.backend() == "jax":
        import jax

        (value, rest), slopes = jax.value_and_grad(function, has_aux=True)(list(values))
        return value, rest, list(slopes)
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(list(values))
        value, rest = function(values)
    slopes = tape.gradient(value, list(values), unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return value, rest, [tf.convert_to_tensor(slope) for slope in slopes]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is traced once for each shape of its arguments; TensorFlow's without XLA."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, autograph=False, reduce_retracing=True)


def trace_state() -> Any:
    """Return what tells a traced function from another one that is traced inside of it, such as a loop's body.

    A tensor of the inner one can't be returned by the outer one.
    """
    if keras.backend.backend() == "jax":
        import jax.extend.core

        source = jax.extend.core if hasattr(jax.extend.core, "get_opaque_trace_state") else jax.core
        return source.get_opaque_trace_state(convention="nnx")
    import tensorflow as tf

    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
