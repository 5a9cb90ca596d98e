"""What a layer or operation computes, as an affine map or a matrix product, and where its output channels lie."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from tfcompress.core.keras_private import build_shapes, flatten_layers
from tfcompress.core.passthrough import innermost
from tfcompress.graph.rewrite import Call
from tfcompress.layers.names import name_of, plain_name


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


@dataclasses.dataclass(frozen=True)
class MatrixForm:
    """An EinsumDense as a matrix product: transpose, reshape, multiply, reshape, transpose.

    Attributes:
        input_axes: Transposition of the input: what is kept, then what is summed over.
        summed: How many axes are summed over.
        kernel_axes: Transposition of the kernel: what is summed over, then its outputs.
        output_axes: Transposition of (kept, kernel's outputs) to the output.
    """

    input_axes: tuple[int, ...]
    summed: int
    kernel_axes: tuple[int, ...]
    output_axes: tuple[int, ...]


def matrix_form(layer: Any) -> MatrixForm | None:
    """Return how an EinsumDense is a matrix product; `None` if it isn't one.

    >>> import keras
    >>> layer = keras.layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 4)); layer.build((None, 5, 8))
    >>> matrix_form(layer)
    MatrixForm(input_axes=(0, 1, 2), summed=1, kernel_axes=(0, 1, 2), output_axes=(0, 1, 2, 3))
    """
    left, output = layer.equation.replace(" ", "").split("->")
    inputs, kernel = left.split(",")
    rank = len(build_shapes(layer).get("input_shape", ()))
    kernel_rank = len(layer.kernel.shape)
    if "..." in inputs and "..." not in kernel:
        extra = "".join(chr(ord("A") + i) for i in range(rank - len(inputs.replace("...", ""))))
        inputs, output = inputs.replace("...", extra), output.replace("...", extra)
    if "..." in left + output and "..." in inputs + kernel + output:
        return None
    if len(inputs) != rank or len(kernel) != kernel_rank or len(set(inputs)) != rank:
        return None
    kept = [a for a in inputs if a in output]
    summed = [a for a in inputs if a not in output]
    made = [a for a in kernel if a not in inputs]
    if any(a in kernel for a in kept) or any(a not in kernel for a in summed) or sorted(output) != sorted(kept + made):
        return None
    return MatrixForm(
        tuple(inputs.index(a) for a in kept + summed),
        len(summed),
        tuple(kernel.index(a) for a in summed + made),
        tuple((kept + made).index(a) for a in output),
    )


def channel_axes(operation: Any, position: int) -> tuple[int, ...]:
    """Return the axes of a kernel along which the output channels lie.

    >>> import keras
    >>> conv = keras.layers.DepthwiseConv2D(3); conv.build((None, 8, 8, 4))
    >>> channel_axes(conv, 0)
    (2, 3)
    """
    inner = innermost(operation)
    weight = inner.weights[position]
    for layer in flatten_layers(inner, include_self=False):  # of an attention that stays whole: its projection knows
        own = [place for place, found in enumerate(layer.weights) if found is weight]
        if own:
            return channel_axes(layer, own[0])
    rank = len(weight.shape)
    name = name_of(inner)
    if name.startswith("depthwiseconv") or weight.name == "depthwise_kernel":
        return (rank - 2, rank - 1)
    if name.endswith("transpose"):
        return (rank - 2,)
    if name == "einsumdense":
        form = matrix_form(inner)
        if form is not None:
            return tuple(sorted(form.kernel_axes[form.summed :]))
    return (rank - 1,)
