"""TensorFlow's kernels for processors that do in one pass what `keras.ops` does in several, with the same bits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfcompress.core.tensorflow_private import traced_for_xla
from tfcompress.quantization.numerics.custom_gradient import differentiable, without_gradients

Tensor = Any

INFINITY = np.float32(np.inf)

_PASSED = {
    "Relu": (np.finfo(np.float32).smallest_normal, INFINITY),
    "Relu6": (np.finfo(np.float32).smallest_normal, np.nextafter(np.float32(6), np.float32(0))),
}
"""The least and greatest output for which a kind of ReLU passes the gradient; TensorFlow takes smaller ones for 0."""


def available() -> bool:
    """Return whether these kernels run what is called or traced here.

    XLA fuses operations by itself, and has no kernel for one of these; on GPUs they were never tried.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return not (traced_for_xla() or tf.config.optimizer.get_jit() or tf.config.list_logical_devices("GPU"))


def traced() -> bool:
    """Return whether these kernels run what is traced here, to be called many times."""
    import tensorflow as tf

    return available() and not tf.executing_eagerly()


def at_hand(x: Tensor) -> Any:
    """Return the values of a tensor as an array where values alone are wanted and they are known; else the tensor.

    Of small weights NumPy computes what it is asked for many times faster than TensorFlow is asked.

    >>> x = keras.ops.zeros((2,))
    >>> at_hand(x) is x
    True
    """
    if not without_gradients() or keras.backend.backend() != "tensorflow":
        return x
    import tensorflow as tf

    return x.numpy() if tf.executing_eagerly() and hasattr(x, "numpy") else x


def places_in(edges: Tensor, values: Tensor, right: bool) -> Tensor:
    """Return how many edges of its row are below each value, int32; `right`: those that equal it count, too.

    Args:
        edges: (rows, edges), ascending.
        values: (rows, values), of the same dtype.
        right: Whether edges that equal the value count.
    """
    import tensorflow as tf

    return tf.searchsorted(edges, values, side="right" if right else "left")


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of tensors that XLA compiles by itself, for each of their shapes; it has no gradient."""
    import tensorflow as tf

    made: Callable[..., Any] = tf.function(function, jit_compile=True, autograph=False)
    return made


def sums(values: Tensor, places: Tensor, size: int) -> Tensor:
    """Return the sum of the values at each of `size` places; a histogram of few bins takes a tenth of a segment sum.

    Args:
        values: float32 or int32, (values,).
        places: int32, (values,).
        size: How many places there are.
    """
    import tensorflow as tf

    return tf.raw_ops.DenseBincount(input=places, size=size, weights=values, binary_output=False)


def k_means_plus_plus(values: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return some of the values, drawn far from each other: k-means++ (Arthur and Vassilvitskii, 2007), as tfmot's.

    Args:
        values: float32, (values,), at least `count`.
        count: How many.
        seed: Of the draws.
    """
    import tensorflow as tf

    with tf.device("CPU"):
        drawn = tf.raw_ops.KmeansPlusPlusInitialization(
            points=values.reshape(-1, 1), num_to_sample=count, seed=seed, num_retries_per_sample=-1
        )
    return np.asarray(drawn).reshape(-1)


def rounded(x: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Return `x` as whole multiples of `scale`, halves to even, at most 2^bits - 1 of them; zeros where it is 0.

    `integers(x, ..., 1 / scale) * scale` but for the ends. The kernel finds the scale and its inverse from the
    range: of one that starts at -2^bits times the scale, a power of two, both are exactly those wanted.

    Args:
        x: float32.
        scale: float32, a scalar.
        bits: Those of the grid.
    """
    import tensorflow as tf

    return tf.raw_ops.QuantizeAndDequantizeV2(
        input=x,
        input_min=scale * -(2.0**bits),
        input_max=0.0,
        num_bits=bits + 1,
        range_given=True,
        round_mode="HALF_TO_EVEN",
    )


def within(upstream: Tensor, x: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Return `upstream` where `x` lies between `first` and `last`, both included, else 0; differentiable.

    Args:
        upstream: float32.
        x: Of its shape; nothing passes where it is NaN.
        first: A scalar.
        last: A scalar.
    """
    import tensorflow as tf

    @differentiable
    def masked(upstream: Tensor) -> tuple[Tensor, Any]:
        passed = tf.raw_ops.QuantizeAndDequantizeV4Grad(gradients=upstream, input=x, input_min=first, input_max=last)
        return passed.input_backprop, lambda upstream: within(upstream, x, first, last)

    return masked(upstream)


def before_relu(x: Tensor) -> tuple[Tensor, np.float32, np.float32]:
    """Return what a ReLU made `x` of, and the least and the greatest of `x` for which it passes the gradient.

    So one mask serves for the ReLU and for what comes behind it. What no ReLU made is returned as it is, with infinite
    ends; so is what is computed at once and not traced, which doesn't know what made it.
    """
    import tensorflow as tf

    operation = x.op if tf.is_symbolic_tensor(x) else None
    if operation is None or operation.type not in _PASSED:
        return x, -INFINITY, INFINITY
    return operation.inputs[0], *_PASSED[operation.type]


def gradients(upstream: Tensor, x: Tensor, ends: tuple[Tensor, Tensor], bits: int, narrow: bool) -> Any:
    """Return the gradients of a fake-quantizer per tensor to `x` and to the ends of its range; XLA has it, too."""
    import tensorflow as tf

    return tf.quantization.fake_quant_with_min_max_vars_gradient(upstream, x, *ends, num_bits=bits, narrow_range=narrow)
