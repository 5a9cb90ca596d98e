"""How integer runtimes see each kind of layer: one table, by the name of the layer, operation or activation."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from tfcompress.passthrough import PassThrough
from tfcompress.surgery.walking import Call

KERNEL, AFFINE, RELU, INTEGER, CONCATENATE = "kernel", "affine", "relu", "integer", "concatenate"
TRANSPARENT, TABLE, FLOAT = "transparent", "table", "float"


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a call is to an integer runtime.

    Attributes:
        kind: "kernel": weights and inputs are quantized, and the output behind what is fused. "affine": a scale and
            an offset for each channel: folded into the kernel before it, else a depthwise convolution. "relu": part
            of what is before it. "integer": quantized before and behind. "concatenate": likewise, but inputs
            that nothing else reads have the range of the output. "transparent": moves values, which stay on their
            grid. "table": an embedding, whose rows lie on a grid. "float": no integer kernel, an island.
        output: The range that the runtimes fix for the output, as a part of [-1, 1]: (0, 1) or (-1, 1); `None`: a
            calibrated one.
        note: What a reader of the summary should know.
    """

    kind: str
    output: tuple[int, int] | None = None
    note: str = ""


def _names(kind: str, names: str, **how: Any) -> dict[str, Rule]:
    return {name: Rule(kind, **how) for name in names.split()}


RULES: dict[str, Rule] = {
    **_names(
        KERNEL,
        "dense einsumdense conv1d conv2d conv1dtranspose conv2dtranspose depthwiseconv1d depthwiseconv2d",
    ),
    # Wherever they stand: after a kernel they are folded into it, with a negative scale too.
    **_names(AFFINE, "batchnormalization rescaling normalization layerscale"),
    **_names(RELU, "relu relu6"),
    **_names(INTEGER, "add subtract multiply matmul averagepooling1d averagepooling2d"),
    **_names(INTEGER, "globalaveragepooling1d globalaveragepooling2d mean leakyrelu prelu"),
    **_names(INTEGER, "sigmoid softmax", output=(0, 1)),
    **_names(INTEGER, "tanh", output=(-1, 1)),
    # relu6(x + 3) / 6 is an affine map that its range (0, 1) cuts off.
    **_names(INTEGER, "hardsigmoid", output=(0, 1)),
    **_names(INTEGER, "gelu maximum minimum", note="float in ONNX"),
    **_names(CONCATENATE, "concatenate"),
    **_names(TRANSPARENT, "maxpooling1d maxpooling2d globalmaxpooling1d globalmaxpooling2d"),
    **_names(TRANSPARENT, "reshape flatten permute transpose squeeze expanddims moveaxis swapaxes"),
    **_names(TRANSPARENT, "zeropadding1d zeropadding2d cropping1d cropping2d upsampling1d upsampling2d repeatvector"),
    **_names(TRANSPARENT, "identity linear getitem split stopgradient activityregularization"),
    **_names(TRANSPARENT, "dropout spatialdropout1d spatialdropout2d spatialdropout3d alphadropout"),
    **_names(TRANSPARENT, "gaussiandropout gaussiannoise"),
    **_names(TABLE, "embedding"),
}
"""Whatever isn't here is "float"."""

NO_INTEGER_KERNEL = Rule(FLOAT, note="float island: no integer kernel")


def name_of(operation: Any) -> str:
    """Return the name under which `RULES` knows a layer or operation.

    >>> import keras
    >>> name_of(keras.layers.Activation("leaky_relu")), name_of(keras.layers.LeakyReLU()), name_of(keras.layers.Dense(1))
    ('leakyrelu', 'leakyrelu', 'dense')
    """
    inner = operation.innermost if isinstance(operation, PassThrough) else operation
    if isinstance(inner, keras.layers.Activation):
        return plain_name(inner.activation)
    for cls in type(inner).__mro__:  # a subclass that adds nothing to the computation is what it derives from
        if cls.__module__.startswith("keras."):
            same = getattr(type(inner), "call", None) is getattr(cls, "call", None)
            return plain_name(cls) if same else ""
    return ""


def plain_name(function: Any) -> str:
    """Return a class's or function's name in small letters, "swish" and the like as "silu"."""
    name = getattr(function, "__name__", type(function).__name__).lower().replace("_", "")
    return {"swish": "silu", "hardswish": "hardsilu"}.get(name, name)


def rule_of(call: Call, bits: int = 8) -> Rule:
    """Return the rule for a call.

    Args:
        call: Of a graph that has been lowered (see `lowering`).
        bits: Of the activations.
    """
    inner = call.operation.innermost if isinstance(call.operation, PassThrough) else call.operation
    name = name_of(call.operation)
    floats = [x for x in (*call.inputs, *call.outputs) if keras.backend.is_float_dtype(x.dtype)]
    if not floats:
        return Rule(TRANSPARENT)
    if constant_map(call) is not None:
        return Rule(AFFINE) if _has_channels(call) else NO_INTEGER_KERNEL
    rule = RULES.get(name, NO_INTEGER_KERNEL)
    refused = _why_float(inner, name, call, rule, bits)
    return Rule(FLOAT, note=f"float island: {refused}") if refused else rule


def _why_float(inner: Any, name: str, call: Call, rule: Rule, bits: int) -> str:
    """Return why a call of a known kind has no integer kernel after all; empty if it has."""
    if getattr(inner, "data_format", None) == "channels_first":
        return "channels first"
    if rule.kind == AFFINE and not _has_channels(call):
        return f"{len(call.inputs[0].shape)} dimensions"
    if rule.kind == AFFINE and not _along_last_axis(inner, name):
        return "not along the last axis"
    if name == "relu" and (getattr(inner, "negative_slope", 0) or getattr(inner, "threshold", 0)):
        return "a slope or threshold"
    if name in ("upsampling2d",) and inner.interpolation != "nearest":
        return f"{inner.interpolation} interpolation"
    if rule.kind in (INTEGER, CONCATENATE, KERNEL) and not all(
        keras.backend.is_float_dtype(x.dtype) for x in (*call.inputs, *call.outputs)
    ):
        return "whole numbers"
    if name in ("add", "subtract", "multiply", "maximum", "minimum", "matmul") and len(call.inputs) < 2:
        return "a constant operand"
    if name == "einsumdense" and matrix_form(inner) is None:
        return f"equation {inner.equation}"
    if bits > 8 and name in ("gelu", "hardsigmoid"):
        return f"no kernel of {bits} bits"
    return ""


def _has_channels(call: Call) -> bool:
    return 2 <= len(call.inputs[0].shape) <= 4 and call.inputs[0].shape[-1] is not None


def _along_last_axis(layer: Any, name: str) -> bool:
    axis = getattr(layer, "axis", -1)
    axes = (axis,) if isinstance(axis, int) else tuple(axis or ())
    rank = len(getattr(layer, "_build_input_shape", None) or ()) or None
    if name == "normalization":
        if layer.invert:
            return False
        rank = len(layer._build_shapes_dict["input_shape"]) if layer._build_shapes_dict else rank
        axes = layer._keep_axis if hasattr(layer, "_keep_axis") else axes
        return all(a in (-1, (rank or 0) - 1) for a in axes)
    if name == "batchnormalization":
        rank = len(layer._build_shapes_dict["input_shape"])
        return axes in ((-1,), (rank - 1,))
    return True


def constant_map(call: Call) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (scale, offset), scalars or one value for each channel, of `x + c`, `x - c`, `c - x`, `x * c`, `x / c`.

    `None` if the call is something else.
    """
    name = plain_name(type(call.operation))
    if name not in ("add", "subtract", "multiply", "divide", "truedivide") or len(call.inputs) != 1:
        return None
    if isinstance(call.operation, keras.layers.Layer) or len(call.arguments) != 2:
        return None
    first, second = call.arguments
    tensor_first = keras.utils.is_keras_tensor(first)
    constant = second if tensor_first else first
    if isinstance(constant, keras.Variable) or keras.utils.is_keras_tensor(constant):
        return None
    value = np.asarray(constant)
    channels = call.inputs[0].shape[-1]
    if (
        value.dtype.kind not in "fiu"
        or math.prod(value.shape[:-1]) != 1
        or (value.shape or (1,))[-1] not in (1, channels)
    ):
        return None
    value = value.astype(np.float64).reshape(-1) if value.size > 1 else value.astype(np.float64).reshape(())
    one, zero = np.ones_like(value), np.zeros_like(value)
    if name == "add":
        return one, value
    if name == "subtract":
        return (one, -value) if tensor_first else (-one, value)
    if name == "multiply":
        return value, zero
    return (1.0 / value, zero) if tensor_first and np.all(value != 0) else None


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
    rank = len(layer._build_shapes_dict["input_shape"]) if layer._build_shapes_dict else 0
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
    inner = operation.innermost if isinstance(operation, PassThrough) else operation
    weight = inner.weights[position]
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
