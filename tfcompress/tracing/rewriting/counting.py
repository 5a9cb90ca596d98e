"""Places in a table or an array, and running products, by operations that the formats have."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.tracing.rewriting.operation_queries import size, value

LARGEST_AXIS = 1024
"""Of a running product: it is computed as that many products of as many factors."""


def bucket(op: Any) -> Any:
    """Return between which boundaries values lie: how many of these are at most as large."""
    import tensorflow as tf

    x = op.inputs[0]
    boundaries = np.asarray(op.get_attr("boundaries"), np.float32)
    if x.shape.rank is None or x.dtype.size > 4:
        return None
    below = tf.expand_dims(tf.cast(x, tf.float32), -1) >= tf.constant(boundaries)
    return [tf.reduce_sum(tf.cast(below, tf.int32), -1)]


def bound(op: Any) -> Any:
    """Return at which places values belong in sorted rows: how many are smaller, or at most as large."""
    import tensorflow as tf

    rows, x = op.inputs
    if (rows.dtype.is_floating and rows.dtype != tf.float32) or op.get_attr("out_type") != tf.int32:
        return None
    rows, x = tf.expand_dims(rows, -2), tf.expand_dims(x, -1)
    before = rows < x if op.type == "LowerBound" else rows <= x
    return [tf.reduce_sum(tf.cast(before, tf.int32), -1)]


def running_product(op: Any) -> Any:
    """Return running products, each as a product of all factors, those that it hasn't being 1."""
    import tensorflow as tf

    x, place = op.inputs[0], value(op.inputs[1])
    axis = None if place is None or x.shape.rank is None else int(place) % x.shape.rank
    size = None if axis is None else x.shape[axis]
    if axis is None or size is None or size > LARGEST_AXIS:
        return None
    has = np.tri(size, k=-1 if op.get_attr("exclusive") else 0, dtype=bool)
    has = has.T if op.get_attr("reverse") else has
    factors = tf.expand_dims(x, axis)  # the products along `axis`, their factors along the one behind
    mask = tf.constant(has.reshape([size, size] + [1] * (x.shape.rank - axis - 1)))
    made = tf.reduce_prod(tf.where(mask, factors, tf.ones_like(factors)), axis + 1)
    made.set_shape(x.shape)
    return [made]


def scattered(op: Any) -> Any:
    """Return values added at their places: in ONNX the last of several for one place would be all that is left."""
    import tensorflow as tf

    places, values, shape = op.inputs
    return [tf.tensor_scatter_nd_add(tf.zeros(shape, values.dtype), places, values)]


def rolled(op: Any) -> Any:
    """Return a rolled array, by slices or by its places: tf2onnx's own slices are invalid if there is one axis."""
    import tensorflow as tf

    x, shift, axis = op.inputs
    axes, known = value(axis), value(shift)
    if axes is None or x.shape.rank is None:
        return None
    steps = tf.unstack(tf.reshape(shift, [axes.size])) if known is None else known.reshape(-1).tolist()
    for by, along in zip(steps, axes.reshape(-1).tolist(), strict=True):
        count = size(x, along)
        if known is not None and isinstance(count, int):
            behind = by % count
            x = tf.concat(tf.split(x, [count - behind, behind], along)[::-1], along) if behind else x
        else:
            places = tf.math.floormod(tf.range(count) - tf.cast(by, tf.int32), count)
            x = tf.gather(x, places, axis=along)
    return [x]


_SHARED: dict[str, tuple[Any, ...]] = {
    "Bucketize": (bucket,),
    "LowerBound": (bound,),
    "UpperBound": (bound,),
    "Cumprod": (running_product,),
}
RULES: dict[str, dict[str, tuple[Any, ...]]] = {
    "tflite": _SHARED,
    "onnx": {**_SHARED, "ScatterNd": (scattered,), "Roll": (rolled,)},
}
