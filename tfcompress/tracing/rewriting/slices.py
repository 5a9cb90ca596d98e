"""Slices that add axes, `x[:, None]`, as a slice and the axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.tracing.rewriting.operation_queries import value


def added_axes(op: Any) -> Any:
    """Return a slice of a tensor of free sizes and, behind it, the axes that it adds.

    TFLite's converter makes a reshape of them, which takes one free size.
    """
    import tensorflow as tf

    x, *limits = op.inputs
    added, ellipsis, shrunk = (op.get_attr(f"{name}_mask") for name in ("new_axis", "ellipsis", "shrink_axis"))
    sparse = [value(limit) for limit in limits]
    if not added or x.shape.rank is None or x.shape.is_fully_defined() or any(limit is None for limit in sparse):
        return None
    begin, end, strides = (np.asarray(limit) for limit in sparse)
    places = range(len(begin))
    kept = [i for i in places if ellipsis >> i & 1 or not added >> i & 1]
    axes, axis = [], 0
    for i in places:
        if ellipsis >> i & 1:
            axis += x.shape.rank - (len(kept) - 1)
        elif added >> i & 1:
            axes.append(axis)
            axis += 1
        else:
            axis += not shrunk >> i & 1
    masks = {
        f"{name}_mask": sum((op.get_attr(f"{name}_mask") >> i & 1) << place for place, i in enumerate(kept))
        for name in ("begin", "end", "ellipsis", "shrink_axis")
    }
    made = tf.raw_ops.StridedSlice(input=x, begin=begin[kept], end=end[kept], strides=strides[kept], **masks)
    for axis in axes:
        made = tf.expand_dims(made, axis)
    made.set_shape(op.outputs[0].shape)
    return [made]


RULES: dict[str, dict[str, tuple[Any, ...]]] = {"tflite": {"StridedSlice": (added_axes,)}, "onnx": {}}
