"""Products of matrices, sums by letters, and sums that Keras writes as the sum with a bias."""

from __future__ import annotations

import string
from typing import Any

from tfcompress.tracing.rewriting.operation_queries import from_input, is_body, is_weight, made_by

_FUSED = ("Relu", "Relu6", "Maximum", "Minimum", "ClipByValue")
"""What a fully connected layer may take on."""


def matrices(op: Any) -> Any:
    """Return a product of two computed matrices as one of batches.

    As a fully connected layer it would take on the ReLU behind it, and lose it when the converter finds out that the
    second matrix is no constant.
    """
    import tensorflow as tf

    a, b = op.inputs
    constant = is_body(op.graph) or not from_input(b)  # in a body a weight looks like any other tensor
    if constant and not any(reader.type in _FUSED for reader in op.outputs[0].consumers()):
        return None
    if is_weight(b) or (op.get_attr("T") != tf.float32) or a.shape.rank != 2:
        return None
    flips = {"adj_x": op.get_attr("transpose_a"), "adj_y": op.get_attr("transpose_b")}
    product = tf.raw_ops.BatchMatMulV2(x=tf.expand_dims(a, 0), y=tf.expand_dims(b, 0), **flips)
    made = tf.squeeze(product, [0])
    made.set_shape(op.outputs[0].shape)
    return [made]


def of_integers(op: Any) -> Any:
    """Return a product of matrices of integers, as layers have it that Keras itself quantized, computed in float32."""
    import tensorflow as tf

    a, b = op.inputs
    if not (a.dtype.is_integer and b.dtype.is_integer):
        return None
    sides = ("adj_x", "adj_y") if op.type.startswith("Batch") else ("transpose_a", "transpose_b")
    flips = dict(zip(("transpose_a", "transpose_b"), map(op.get_attr, sides), strict=True))
    made = tf.matmul(tf.cast(a, tf.float32), tf.cast(b, tf.float32), **flips)
    return [tf.cast(tf.round(made), op.outputs[0].dtype)]


def plain_sum(op: Any) -> Any:
    """Return a sum for what Keras takes for the sum with a bias: any tensor that has one long axis."""
    import tensorflow as tf

    x, bias = op.inputs
    squeeze = made_by(bias, "Squeeze")
    whole = squeeze.inputs[0] if squeeze is not None and from_input(bias) else None
    by_rows = op.get_attr("data_format") == b"NCHW" and x.shape.rank > 2
    if whole is not None and whole.shape.rank == x.shape.rank and (by_rows or whole.shape[-1] == 1):
        bias = whole  # a sample of one channel, say
    elif by_rows:
        bias = tf.reshape(bias, [-1] + [1] * (x.shape.rank - 2))
    elif op.get_attr("T").is_floating:
        return None
    return [tf.add(x, bias)]


def small_letters(op: Any) -> Any:
    """Return a sum whose equation has capital letters in small ones: tf2onnx sorts them otherwise than TensorFlow."""
    import tensorflow as tf

    equation = op.get_attr("equation").decode()
    letters = list(dict.fromkeys(filter(str.isalpha, equation)))
    if equation == equation.lower() or len(letters) > len(string.ascii_lowercase):
        return None
    small = equation.translate(str.maketrans(dict(zip(letters, string.ascii_lowercase, strict=False))))
    return [tf.raw_ops.Einsum(inputs=list(op.inputs), equation=small)]


def inner_products(op: Any) -> Any:
    """Return a sum of products of two tensors that have all letters in common, "bij,bij->b": TFLite fails on it."""
    import tensorflow as tf

    inputs, _, output = op.get_attr("equation").decode().replace(" ", "").partition("->")
    first, _, second = inputs.partition(",")
    letters = sorted(first)
    if len(op.inputs) != 2 or letters != sorted(second) or len(set(letters)) != len(letters) or not first.isalpha():
        return None
    a, b = op.inputs
    product = a * tf.transpose(b, [second.index(letter) for letter in first])
    kept = [letter for letter in first if letter in output]
    made = tf.reduce_sum(product, [place for place, letter in enumerate(first) if letter not in output])
    return [tf.transpose(made, [kept.index(letter) for letter in output])]


RULES: dict[str, dict[str, tuple[Any, ...]]] = {
    "tflite": {
        "MatMul": (of_integers, matrices),
        **dict.fromkeys(("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), (of_integers,)),
        "BiasAdd": (plain_sum,),
        "Einsum": (inner_products, small_letters),
    },
    "onnx": {"BiasAdd": (plain_sum,), "Einsum": (small_letters,)},
}
