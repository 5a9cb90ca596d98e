"""Operations on integers that a format has for few widths, or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.tracing.rewriting.operation_queries import value

_WIDER = {"int8": "int32", "uint8": "int32", "int16": "int32", "uint16": "int32", "uint32": "int64", "bool": "int32"}
"""In which dtype those of few bits are computed; what doesn't fit wraps in the cast back, as in TensorFlow itself."""

_ARITHMETIC = (
    *("Add", "AddV2", "Sub", "Mul", "FloorDiv", "FloorMod", "Maximum", "Minimum", "Pow", "SquaredDifference"),
    *("Abs", "Neg", "Relu", "Sign", "Square", "Cumsum", "Max", "Min", "Sum", "Prod", "ArgMax", "ArgMin"),
    *("Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual"),
    *("MirrorPad", "Pad", "PadV2", "ReverseV2", "SelectV2", "Tile", "ZerosLike"),
)
_BITS = ("BitwiseAnd", "BitwiseOr", "BitwiseXor", "RightShift")

_ARGUMENTS = {"reduction_indices": "axis"}
"""Which have another name in Python."""

NEWTON_STEPS = 4
"""Each finds 20 bits of an int64 quotient, by dividing in float32."""


def widened(op: Any) -> Any:
    """Return what an operation on integers of few bits computes, in more bits."""
    import tensorflow as tf

    wide = _WIDER.get(op.get_attr("T").name)
    if wide is None:
        return None
    definition = op.op_def
    given = {
        _ARGUMENTS.get(arg.name, arg.name): tf.cast(x, wide) if arg.type_attr == "T" else x
        for arg, x in zip(definition.input_arg, op.inputs, strict=True)
    }
    implied = {arg.type_attr for arg in definition.input_arg}
    attributes = {a.name: op.get_attr(a.name) for a in definition.attr if a.name not in implied}
    made = getattr(tf.raw_ops, op.type)(**given, **attributes)
    back = definition.output_arg[0].type_attr == "T"
    return [tf.cast(made, op.get_attr("T")) if back else made]


def without_marks(op: Any) -> bool:
    """Return whether a bitwise operation is one by which Keras finds negative zeros, which are forgotten later."""
    return any(x.op.type == "Bitcast" for x in op.inputs)


def widened_bits(op: Any) -> Any:
    """Return the same of a bitwise operation."""
    return None if without_marks(op) else widened(op)


def inverted(op: Any) -> Any:
    """Return ~x as a difference."""
    import tensorflow as tf

    dtype = op.get_attr("T")
    ones = tf.constant(dtype.max if dtype.is_unsigned else -1, dtype)
    return [tf.raw_ops.Sub(x=ones, y=op.inputs[0])]


def shifted(op: Any) -> Any:
    """Return x << n as x * 2**n, n taken modulo the bits as in TensorFlow's kernel."""
    import tensorflow as tf

    dtype = op.get_attr("T")
    bits = 8 * dtype.size
    powers = np.array([1 << n for n in range(bits)], np.uint64).astype(dtype.as_numpy_dtype)
    known = value(op.inputs[1])
    if known is not None:
        return [tf.raw_ops.Mul(x=op.inputs[0], y=tf.constant(powers[np.clip(known.astype(np.int64), 0, bits - 1)]))]
    places = tf.clip_by_value(tf.cast(op.inputs[1], tf.int32), 0, bits - 1)
    return [tf.raw_ops.Mul(x=op.inputs[0], y=tf.gather(tf.constant(powers), places))]


def both_bits(op: Any) -> Any:
    """Return x & y, or x | y, of int32 by their sum and x ^ y: the sum holds twice the bits that both have."""
    import tensorflow as tf

    if without_marks(op) or op.get_attr("T") != tf.int32:
        return None
    x, y = op.inputs
    either = tf.bitwise.bitwise_xor(x, y)
    halved = tf.bitwise.right_shift(x + y - either, tf.constant(1))
    negative = tf.logical_and(x < 0, y < 0)  # the bit that the sum has no room for
    both = tf.where(tf.equal(halved < 0, negative), halved, tf.bitwise.bitwise_xor(halved, tf.constant(tf.int32.min)))
    return [both if op.type == "BitwiseAnd" else tf.bitwise.bitwise_xor(both, either)]


def _only_int64(op: Any) -> bool:
    return bool(op.get_attr("T").name == "int64")


def shifted_right(op: Any) -> Any:
    """Return x >> n of int64 as a division."""
    import tensorflow as tf

    x, places = op.inputs
    if not _only_int64(op):
        return None
    powers = np.int64(1) << np.arange(63, dtype=np.int64)
    known = value(places)
    if known is not None and known.max() < len(powers):
        return [tf.raw_ops.FloorDiv(x=x, y=tf.constant(powers[np.maximum(known, 0)]))]
    most = len(powers) - 1
    divisor = tf.gather(tf.constant(powers), tf.cast(tf.clip_by_value(places, 0, most), tf.int32))
    return [tf.where(places > most, -tf.cast(x < 0, tf.int64), tf.raw_ops.FloorDiv(x=x, y=divisor))]


def absolute(op: Any) -> Any:
    """Return |x| of int64."""
    import tensorflow as tf

    x = op.inputs[0]
    return [tf.where(x < 0, -x, x)] if _only_int64(op) else None


def sign(op: Any) -> Any:
    """Return the sign of int64."""
    import tensorflow as tf

    x = op.inputs[0]
    return [tf.cast(x > 0, tf.int64) - tf.cast(x < 0, tf.int64)] if _only_int64(op) else None


def place_of_extreme(op: Any) -> Any:
    """Return where the largest or least int64 is first: at the first that equals it."""
    import tensorflow as tf

    x, axis = op.inputs
    if not _only_int64(op):
        return None
    extreme = (tf.raw_ops.Max if op.type == "ArgMax" else tf.raw_ops.Min)(input=x, axis=axis, keep_dims=True)
    return [tf.argmax(tf.cast(tf.equal(x, extreme), tf.int32), axis, op.get_attr("output_type"))]


def power(op: Any) -> Any:
    """Return a power of int64 with a constant exponent as products."""
    import tensorflow as tf

    known = value(op.inputs[1])
    if not _only_int64(op) or known is None or known.size != 1 or not 0 <= int(known.item()) < 64:
        return None
    made, square, exponent = tf.ones_like(op.inputs[0]), op.inputs[0], int(known.item())
    while exponent:
        made = made * square if exponent & 1 else made
        exponent >>= 1
        square = square * square if exponent else square
    return [made]


def rounded_quotient(op: Any) -> Any:
    """Return x // y of floats as the quotient, rounded to float32 as everywhere, rounded down: TFLite's kernel divides
    in more bits, and 1.5 // 0.3 is 4 there."""
    import tensorflow as tf

    return [tf.floor(op.inputs[0] / op.inputs[1])] if op.get_attr("T") == tf.float32 else None


def quotient(op: Any) -> Any:
    """Return x // y of int64: a quotient of floats, and what is left over divided again, until all bits are right."""
    import tensorflow as tf

    x, y = op.inputs
    if not _only_int64(op):
        return None
    divisor, rest, found = tf.cast(y, tf.float32), x, tf.zeros_like(x)
    for _ in range(NEWTON_STEPS):
        # A little less than the quotient, so that that of the largest integers is one, too.
        part = tf.cast(tf.cast(rest, tf.float32) / divisor * (1 - 2.0**-20), tf.int64)
        found, rest = found + part, rest - part * y
    for _ in range(2):  # the last may be one too few or, where signs differ, one too many
        more = tf.logical_and(tf.equal(rest < 0, y < 0), tf.where(y < 0, rest <= y, rest >= y))
        less = tf.logical_and(tf.not_equal(rest, tf.zeros_like(rest)), tf.not_equal(rest < 0, y < 0))
        step = tf.cast(more, tf.int64) - tf.cast(less, tf.int64)
        found, rest = found + step, rest - step * y
    return [found]


def hot(op: Any) -> Any:
    """Return a one-hot encoding in which negative places are nowhere: in ONNX they count from the end."""
    import tensorflow as tf

    places, depth, *values = op.inputs
    if op.get_attr("TI").is_unsigned or places.op.type == "SelectV2":
        return None
    places, beyond = tf.cast(places, tf.int64), tf.cast(depth, tf.int64)
    inside = tf.where(places < 0, beyond, places)
    return [
        tf.raw_ops.OneHot(
            indices=inside, depth=depth, on_value=values[0], off_value=values[1], axis=op.get_attr("axis")
        )
    ]


def at_most_six(op: Any) -> Any:
    """Return the smaller of whole numbers and 6 as a choice: with a limit of 0 the converter takes it for a ReLU6."""
    import tensorflow as tf

    for x, limit in (op.inputs, reversed(op.inputs)):
        known = value(limit) if limit.dtype.is_integer else None
        if known is not None and np.all(known == 6):
            return [tf.where(x > limit, limit, x)]
    return None


_SHARED: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(_ARITHMETIC, (widened,)),
    "Invert": (inverted,),
    "LeftShift": (shifted,),
}
RULES: dict[str, dict[str, tuple[Any, ...]]] = {
    "tflite": {
        **_SHARED,
        **dict.fromkeys(_BITS, (widened_bits,)),
        "BitwiseAnd": (widened_bits, both_bits),
        "BitwiseOr": (widened_bits, both_bits),
        "RightShift": (widened_bits, shifted_right),
        "Abs": (widened, absolute),
        "Sign": (widened, sign),
        "ArgMax": (widened, place_of_extreme),
        "ArgMin": (widened, place_of_extreme),
        "Minimum": (widened, at_most_six),
        "Pow": (widened, power),
        "FloorDiv": (widened, rounded_quotient, quotient),
    },
    "onnx": {**_SHARED, "OneHot": (hot,)},
}
