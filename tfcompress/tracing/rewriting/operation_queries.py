"""Questions to an operation of a TensorFlow graph."""

from __future__ import annotations

from typing import Any

import numpy as np

_PASSING = ("Identity", "StopGradient", "CheckNumerics", "Snapshot")


def value(tensor: Any) -> np.ndarray | None:
    """Return the values of a tensor that is known while tracing; None: it isn't."""
    import tensorflow as tf

    found = tf.get_static_value(tensor)
    if found is not None:
        return np.asarray(found)
    whole = tensor.dtype.is_integer or tensor.dtype.is_bool
    evaluate = _EVALUATED.get(tensor.op.type) or (_OF_SIZES.get(tensor.op.type) if whole else None)
    # TensorFlow itself looks past few operations.
    inputs = [] if evaluate is None else [value(x) for x in tensor.op.inputs]
    if evaluate is None or any(x is None for x in inputs):
        return None
    return np.asarray(evaluate(tensor.op, inputs))


def _slice(op: Any, inputs: list[np.ndarray]) -> Any:
    """Return what TensorFlow's own operation cuts from values."""
    import tensorflow as tf

    names = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    masks = {name: op.get_attr(name) for name in names}
    values, begin, end, strides = inputs
    with tf.init_scope():
        return tf.raw_ops.StridedSlice(input=values, begin=begin, end=end, strides=strides, **masks).numpy()


_EVALUATED: dict[str, Any] = {
    "Cast": lambda op, inputs: inputs[0].astype(op.get_attr("DstT").as_numpy_dtype),
    "ConcatV2": lambda op, inputs: np.concatenate(inputs[:-1], int(inputs[-1])),
    "Identity": lambda op, inputs: inputs[0],
    "Pack": lambda op, inputs: np.stack(inputs, op.get_attr("axis")),
    "Reshape": lambda op, inputs: np.reshape(inputs[0], inputs[1]),
    "StridedSlice": _slice,
}
_OF_SIZES: dict[str, Any] = {
    "AddV2": lambda op, inputs: inputs[0] + inputs[1],
    "Less": lambda op, inputs: inputs[0] < inputs[1],
    **dict.fromkeys(("Select", "SelectV2"), lambda op, inputs: np.where(*inputs)),
}
"""What axes and sizes are computed with."""


def size(tensor: Any, axis: int) -> Any:
    """Return the size of an axis, as a tensor where it is free."""
    import tensorflow as tf

    return tensor.shape[axis] if tensor.shape[axis] is not None else tf.shape(tensor)[axis]


def source(tensor: Any, *through: str) -> Any:
    """Return the tensor that one is the same as, past identities and operations `through` (their first input)."""
    while tensor.op.type in (*_PASSING, *through):
        tensor = tensor.op.inputs[0]
    return tensor


def made_by(tensor: Any, kind: str) -> Any | None:
    """Return the operation of that type which makes a tensor; None: another does."""
    op = source(tensor).op
    return op if op.type == kind else None


def is_weight(tensor: Any) -> bool:
    """Return whether a tensor is a constant or a variable, perhaps reshaped or transposed."""
    return source(tensor, "Reshape", "Transpose", "Squeeze", "ExpandDims").op.type in ("Const", "ReadVariableOp")


def is_body(graph: Any) -> bool:
    """Return whether a graph is the body of a loop or a condition, rather than the model's."""
    return hasattr(graph.outer_graph, "outer_graph")


def from_input(tensor: Any) -> bool:
    """Return whether a tensor depends on what the graph is given, rather than on weights and constants alone."""
    seen, waiting = set(), [tensor.op]
    while waiting:
        op = waiting.pop()
        if op.name in seen:
            continue
        seen.add(op.name)
        if op.type == "Placeholder" and all(x.dtype.name != "resource" for x in op.outputs):
            return True
        waiting += [x.op for x in op.inputs]
    return False
