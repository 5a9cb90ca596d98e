"""Fourier transforms as products with matrices, and complex numbers as pairs of real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfcompress.export.rewriting.reading import value

LONGEST = 4096
"""Samples of a transform: its matrices hold as many numbers, squared."""

Pair = tuple[Any, Any]


def pair(tensor: Any) -> Pair | None:
    """Return the real and the imaginary part of a complex tensor; None: it is made by what isn't known here."""
    find = _PAIRS.get(tensor.op.type)
    return None if find is None else find(tensor.op)


def _of_real(op: Any) -> Pair | None:
    import tensorflow as tf

    if op.inputs[0].dtype.is_complex:
        return None
    real = tf.cast(op.inputs[0], tf.float32)
    return real, tf.zeros_like(real)


def _moved(op: Any) -> Pair | None:
    """Return the parts of what an operation does to each of them alike."""
    import tensorflow as tf

    parts = pair(op.inputs[0])
    if parts is None:
        return None
    rest = list(op.inputs[1:])
    settings = {a.name: op.get_attr(a.name) for a in op.op_def.attr if not _implied(op, a.name)}
    names = [arg.name for arg in op.op_def.input_arg]
    make = getattr(tf.raw_ops, op.type)
    one, two = (make(**dict(zip(names, [x, *rest], strict=True)), **settings) for x in parts)
    return one, two


def _conjugate(op: Any) -> Pair | None:
    parts = pair(op.inputs[0])
    return None if parts is None else (parts[0], -parts[1])


def _computed(op: Any) -> Pair | None:
    a, b = pair(op.inputs[0]), pair(op.inputs[1])
    if a is None or b is None:
        return None
    if op.type == "Mul":
        return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]
    sign = -1 if op.type == "Sub" else 1
    return a[0] + sign * b[0], a[1] + sign * b[1]


def _implied(op: Any, name: str) -> bool:
    return any(name in (arg.type_attr, arg.number_attr) for arg in op.op_def.input_arg)


def _matrix(rows: int, columns: int, period: int, sign: int) -> Pair:
    import tensorflow as tf

    turns = np.outer(np.arange(rows), np.arange(columns)) % period / period
    angles = sign * 2 * np.pi * turns
    return tf.constant(np.cos(angles).astype("float32")), tf.constant(np.sin(angles).astype("float32"))


def _fitted(x: Any, length: int) -> Any | None:
    """Return the first `length` entries along the last axis, zeros behind where there are fewer."""
    import tensorflow as tf

    size = x.shape[-1]
    if size is None:
        return None
    if size >= length:
        return x[..., :length]
    return tf.pad(x, [[0, 0]] * (x.shape.rank - 1) + [[0, length - size]])


def _real_transform(op: Any) -> Pair | None:
    import tensorflow as tf

    length = value(op.inputs[1])
    if length is None or op.inputs[0].dtype != tf.float32 or not 0 < int(length.item()) <= LONGEST:
        return None
    n = int(length.item())
    x = _fitted(op.inputs[0], n)
    if x is None:
        return None
    cosines, sines = _matrix(n, n // 2 + 1, n, -1)
    return tf.matmul(x, cosines), tf.matmul(x, sines)


def _transform(op: Any) -> Pair | None:
    parts = pair(op.inputs[0])
    return None if parts is None else _transformed(parts, op.type.startswith("I"))


def _two_transforms(op: Any) -> Pair | None:
    """Return the transform over the last two axes: over each of them."""
    import tensorflow as tf

    parts = pair(op.inputs[0])
    for _ in range(2):
        parts = None if parts is None else _transformed(parts, op.type.startswith("I"))
        parts = None if parts is None else (tf.linalg.matrix_transpose(parts[0]), tf.linalg.matrix_transpose(parts[1]))
    return parts


def _transformed(parts: Pair, back: bool) -> Pair | None:
    import tensorflow as tf

    n = parts[0].shape[-1]
    if n is None or n > LONGEST:
        return None
    cosines, sines = _matrix(n, n, n, 1 if back else -1)
    real = tf.matmul(parts[0], cosines) - tf.matmul(parts[1], sines)
    imaginary = tf.matmul(parts[0], sines) + tf.matmul(parts[1], cosines)
    return (real / n, imaginary / n) if back else (real, imaginary)


_PAIRS: dict[str, Callable[[Any], Pair | None]] = {
    "Complex": lambda op: (op.inputs[0], op.inputs[1]),
    "Cast": _of_real,
    "RFFT": _real_transform,
    **dict.fromkeys(("FFT", "IFFT"), _transform),
    **dict.fromkeys(("FFT2D", "IFFT2D"), _two_transforms),
    **dict.fromkeys(
        ("Identity", "Transpose", "Reshape", "ExpandDims", "Squeeze", "StridedSlice", "Slice", "Neg"), _moved
    ),
    "Conj": _conjugate,
    **dict.fromkeys(("Mul", "Add", "AddV2", "Sub"), _computed),
}


def part(op: Any) -> Any:
    """Return a part of a complex tensor, or its size."""
    import tensorflow as tf

    parts = pair(op.inputs[0])
    if parts is None:
        return None
    if op.type == "ComplexAbs":
        return [tf.sqrt(tf.square(parts[0]) + tf.square(parts[1]))]
    return [parts[0] if op.type == "Real" else parts[1]]


def inverse(op: Any) -> Any:
    """Return the real signal that has a spectrum."""
    import tensorflow as tf

    parts, length = pair(op.inputs[0]), value(op.inputs[1])
    if parts is None or length is None or not 0 < int(length.item()) <= LONGEST:
        return None
    n = int(length.item())
    real, imaginary = (_fitted(x, n // 2 + 1) for x in parts)
    if real is None or imaginary is None:
        return None
    cosines, sines = _matrix(n // 2 + 1, n, n, 1)
    # Each but the first, and of an even length the last, stands for two that are conjugate.
    twice = np.full([n // 2 + 1, 1], 2.0 / n, np.float32)
    twice[0] = 1.0 / n
    if n % 2 == 0:
        twice[-1] = 1.0 / n
    return [tf.matmul(real, cosines * twice) - tf.matmul(imaginary, sines * twice)]


_PARTS: dict[str, tuple[Any, ...]] = {
    "Real": (part,),
    "Imag": (part,),
    "ComplexAbs": (part,),
    "IRFFT": (inverse,),
}


def _not_of_rfft(op: Any) -> Any:
    """Return the same in TFLite, which has the transform of real signals itself, of lengths that are powers of two."""
    source = op.inputs[0].op
    length = value(source.inputs[1]) if source.type == "RFFT" else None
    own = length is not None and int(length.item()).bit_count() == 1
    return None if own else part(op)


RULES: dict[str, dict[str, tuple[Any, ...]]] = {
    "tflite": {**_PARTS, **dict.fromkeys(("Real", "Imag", "ComplexAbs"), (_not_of_rfft,))},
    "onnx": _PARTS,
}
