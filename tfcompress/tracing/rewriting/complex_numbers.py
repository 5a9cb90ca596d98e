"""Complex numbers as pairs of real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfcompress.tracing.rewriting import fourier
from tfcompress.tracing.rewriting.fourier import Pair
from tfcompress.tracing.rewriting.operation_queries import size, value

Known = dict[Any, Pair | None]
"""{reference of a complex tensor: its parts}, while the parts of one are sought: what is made may be replaced later."""


def pair(tensor: Any, known: Known) -> Pair | None:
    """Return the real and the imaginary part of a complex tensor; None: it is made by what isn't known here."""
    if tensor.ref() not in known:
        known[tensor.ref()] = _made(tensor, known)
    return known[tensor.ref()]


def _made(tensor: Any, known: Known) -> Pair | None:
    import tensorflow as tf

    if tensor.dtype != tf.complex64:
        return None
    constant = value(tensor)
    if constant is not None:
        return tf.constant(constant.real.astype("float32")), tf.constant(constant.imag.astype("float32"))
    op = tensor.op
    if op.type in _ALIKE:
        parts = _alike(op, known)
        return None if parts is None else (parts[0][tensor.value_index], parts[1][tensor.value_index])
    find = _PAIRS.get(op.type)
    return None if find is None else find(op, known)


def _of_real(op: Any, known: Known) -> Pair | None:
    import tensorflow as tf

    if op.inputs[0].dtype.is_complex:
        return pair(op.inputs[0], known)
    real = tf.cast(op.inputs[0], tf.float32)
    return real, tf.zeros_like(real)


def _alike(op: Any, known: Known) -> tuple[list[Any], list[Any]] | None:
    """Return the outputs of an operation that does to each part of its complex inputs what it does to numbers."""
    parts = [pair(x, known) if x.dtype.is_complex else (x, x) for x in op.inputs]
    if any(x is None for x in parts):
        return None
    return _again(op, [x[0] for x in parts if x]), _again(op, [x[1] for x in parts if x])


def _again(op: Any, inputs: list[Any]) -> list[Any]:
    """Return what an operation makes of real inputs."""
    import tensorflow as tf
    from tensorflow.core.framework import attr_value_pb2

    settings = {name: setting for name, setting in op.node_def.attr.items() if not name.startswith("_")}
    for name, setting in settings.items():
        if setting.type == tf.complex64.as_datatype_enum:
            settings[name] = attr_value_pb2.AttrValue(type=tf.float32.as_datatype_enum)
    kinds = [tf.float32 if x.dtype.is_complex else x.dtype for x in op.outputs]
    return list(op.graph.create_op(op.type, inputs, kinds, attrs=settings, name=op.type).outputs)


def _conjugate(op: Any, known: Known) -> Pair | None:
    parts = pair(op.inputs[0], known)
    return None if parts is None else (parts[0], -parts[1])


def _product(op: Any, known: Known) -> Pair | None:
    """Return what multiplies its two inputs: numbers, matrices, or sums by letters."""
    two = [pair(x, known) for x in op.inputs]
    if len(two) != 2:
        return None
    a, b = two
    if a is None or b is None:
        return None
    adjoint = [name in op.node_def.attr and op.get_attr(name) for name in ("adj_x", "adj_y")]
    a, b = ((x[0], -x[1]) if turned else x for x, turned in zip((a, b), adjoint, strict=True))
    real, mixed, mixed_too, imaginary = (_again(op, [x, y])[0] for x in a for y in b)
    return real - imaginary, mixed + mixed_too


def _quotient(op: Any, known: Known) -> Pair | None:
    import tensorflow as tf

    a, b = pair(op.inputs[0], known), pair(op.inputs[1], known)
    if a is None or b is None:
        return None
    below = tf.square(b[0]) + tf.square(b[1])
    return (a[0] * b[0] + a[1] * b[1]) / below, (a[1] * b[0] - a[0] * b[1]) / below


def _square(op: Any, known: Known) -> Pair | None:
    import tensorflow as tf

    parts = pair(op.inputs[0], known)
    return None if parts is None else (tf.square(parts[0]) - tf.square(parts[1]), 2.0 * parts[0] * parts[1])


def _exponential(op: Any, known: Known) -> Pair | None:
    import tensorflow as tf

    parts = pair(op.inputs[0], known)
    if parts is None:
        return None
    long = tf.exp(parts[0])
    return long * tf.cos(parts[1]), long * tf.sin(parts[1])


def _axes(op: Any) -> list[int]:
    """Return over which axes an operation transforms: the last ones, as many as its name says."""
    count = 3 if op.type.endswith("3D") else 2 if op.type.endswith("2D") else 1
    return [*range(-count, 0)]


def _lengths(op: Any) -> list[Any]:
    """Return the lengths that a transform of or to real numbers has been told, as tensors where they are free."""
    given = value(op.inputs[1])
    return [op.inputs[1][i] if given is None else int(given[i]) for i, _ in enumerate(_axes(op))]


def _transform(op: Any, known: Known) -> Pair | None:
    axes, parts = _axes(op), pair(op.inputs[0], known)
    if parts is None or parts[0].shape.rank is None:
        return None
    do = fourier.inverse if op.type.startswith("I") else fourier.transform
    return do(parts, [size(parts[0], axis) for axis in axes], axes)


def _of_real_signal(op: Any, known: Known) -> Pair | None:
    import tensorflow as tf

    axes, x = _axes(op), op.inputs[0]
    if x.dtype != tf.float32 or x.shape.rank is None:
        return None
    lengths = _lengths(op)
    parts = fourier.of_real(x, lengths[-1])
    return None if parts is None else fourier.transform(parts, lengths[:-1], axes[:-1])


_ALIKE = (
    *("Identity", "Transpose", "Reshape", "ExpandDims", "Squeeze", "StridedSlice", "Slice", "Neg", "Tile", "Pad"),
    *("ConcatV2", "Pack", "Unpack", "Split", "SplitV", "GatherV2", "GatherNd", "ReverseV2", "Roll", "BroadcastTo"),
    *("Add", "AddV2", "AddN", "Sub", "Sum", "Mean", "Cumsum", "SelectV2", "ZerosLike", "MirrorPad"),
)
"""What does to each part of complex numbers what it does to real ones."""

_PAIRS: dict[str, Callable[[Any, Known], Pair | None]] = {
    "Complex": lambda op, known: (op.inputs[0], op.inputs[1]),
    "Cast": _of_real,
    "Conj": _conjugate,
    **dict.fromkeys(("Mul", "MatMul", "BatchMatMulV2", "Einsum"), _product),
    **dict.fromkeys(("RealDiv", "Div"), _quotient),
    "Square": _square,
    "Exp": _exponential,
    **dict.fromkeys(("FFT", "IFFT", "FFT2D", "IFFT2D", "FFT3D", "IFFT3D"), _transform),
    **dict.fromkeys(("RFFT", "RFFT2D", "RFFT3D"), _of_real_signal),
}


def part(op: Any) -> Any:
    """Return a part of a complex tensor, its size, or its angle."""
    import tensorflow as tf

    parts = pair(op.inputs[0], {})
    if parts is None:
        return None
    if op.type == "ComplexAbs":
        return [tf.sqrt(tf.square(parts[0]) + tf.square(parts[1]))]
    if op.type == "Angle":
        return [tf.atan2(parts[1], parts[0])]
    return [parts[1] if op.type == "Imag" else parts[0]]


def cast(op: Any) -> Any:
    """Return the real part of complex numbers that are cast to real ones."""
    import tensorflow as tf

    if not op.inputs[0].dtype.is_complex or op.outputs[0].dtype.is_complex:
        return None
    parts = pair(op.inputs[0], {})
    return None if parts is None else [tf.cast(parts[0], op.outputs[0].dtype)]


def shape(op: Any) -> Any:
    """Return the sizes of a complex tensor, which are those of its real part."""
    import tensorflow as tf

    parts = pair(op.inputs[0], {}) if op.inputs[0].dtype.is_complex else None
    return None if parts is None else [tf.shape(parts[0], out_type=op.outputs[0].dtype)]


def inverse(op: Any) -> Any:
    """Return the real signal that has a spectrum."""
    axes, parts = _axes(op), pair(op.inputs[0], {})
    if parts is None or parts[0].shape.rank is None:
        return None
    lengths = _lengths(op)
    between = fourier.inverse(parts, lengths[:-1], axes[:-1])
    signal = None if between is None else fourier.to_real(between, lengths[-1])
    return None if signal is None else [signal]


_PARTS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("Real", "Imag", "ComplexAbs", "Angle"), (part,)),
    "Cast": (cast,),
    "Shape": (shape,),
    **dict.fromkeys(("IRFFT", "IRFFT2D", "IRFFT3D"), (inverse,)),
}


def _not_of_rfft(op: Any) -> Any:
    """Return the same in TFLite, which has the transform of real signals itself, of lengths that are powers of two."""
    source = op.inputs[0].op
    length = value(source.inputs[1]) if source.type == "RFFT" else None
    own = length is not None and int(np.ravel(length)[0]).bit_count() == 1
    return None if own else part(op)


RULES: dict[str, dict[str, tuple[Any, ...]]] = {
    "tflite": {**_PARTS, **dict.fromkeys(("Real", "Imag", "ComplexAbs"), (_not_of_rfft,))},
    "onnx": _PARTS,
}
