"""Nearest up-sampling as one operation that resizes, and patches of images as a convolution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfcompress.tracing.rewriting.operation_queries import made_by, source, value


def _repetition(tensor: Any) -> tuple[Any, int, int] | None:
    """Return what a tensor repeats, along which axis and how many times (`keras.ops.repeat`); None: it doesn't."""
    reshape = made_by(tensor, "Reshape")
    tile = made_by(reshape.inputs[0], "Tile") if reshape is not None else None
    expand = made_by(tile.inputs[0], "ExpandDims") if tile is not None else None
    if reshape is None or tile is None or expand is None or not reshape.name.split("/")[-2].startswith("Repeat"):
        return None
    inner, times, place = expand.inputs[0], value(tile.inputs[1]), value(expand.inputs[1])
    rank = inner.shape.rank
    if times is None or place is None or rank is None or tensor.shape.rank != rank:
        return None
    axis = int(place) % (rank + 1) - 1
    factor = int(times[axis + 1])
    if axis < 0 or math.prod(int(t) for t in times) != factor:
        return None
    for i, (before, behind) in enumerate(zip(inner.shape, tensor.shape, strict=True)):
        if before is not None and behind is not None and behind != before * (factor if i == axis else 1):
            return None
    return inner, axis, factor


def resized(op: Any) -> Any:
    """Return a resized image for a tensor whose rows and columns are repeated."""
    import tensorflow as tf

    output = op.outputs[0]
    last = _repetition(output)
    if last is None or output.dtype != tf.float32:
        return None
    first = _repetition(last[0])
    if first is not None and first[1] + 1 == last[1] == 2 and output.shape.rank == 4:
        made = _resize(source(first[0]), first[2], last[2])
    elif output.shape.rank == 4 and any(_follows(x.outputs[0], output, last[1]) for x in _reshapes(output)):
        return None  # the first half of a pair: the second takes both
    else:
        made = _along(*last)
    if made is None:
        return None
    made.set_shape(output.shape)
    return [made]


def _follows(tensor: Any, before: Any, axis: int) -> bool:
    """Return whether a tensor repeats another along the axis behind `axis`."""
    found = _repetition(tensor)
    return found is not None and source(found[0]) is before and found[1] == axis + 1


def _reshapes(tensor: Any) -> list[Any]:
    """Return the reshapes at the end of what may be a repetition of a tensor."""
    found = [tensor.op]
    for kind in ("ExpandDims", "Tile", "Reshape"):
        found = [op for x in found for y in x.outputs for op in y.consumers() if op.type == kind]
    return found


def _along(inner: Any, axis: int, factor: int) -> Any | None:
    """Return a tensor repeated along one axis that isn't its last, as an image of that many rows, one pixel wide."""
    import tensorflow as tf

    shape = inner.shape.as_list()
    if len(shape) == 3 and axis == 1:
        return tf.squeeze(_resize(tf.expand_dims(inner, 2), factor, 1), [2])
    if not 1 <= axis < len(shape) - 1 or None in shape[1:]:
        return None
    before, size, behind = math.prod(shape[1:axis]), shape[axis], math.prod(shape[axis + 1 :])
    if shape[0] is None and before != 1:
        return None
    rows = -1 if shape[0] is None else shape[0] * before
    image = _resize(tf.reshape(inner, [rows, size, 1, behind]), factor, 1)
    lead = [-1] if shape[0] is None else [shape[0]]
    return tf.reshape(image, [*lead, *shape[1:axis], size * factor, *shape[axis + 1 :]])


def _resize(image: Any, rows: int, columns: int) -> Any:
    import tensorflow as tf

    height, width = image.shape[1:3]
    if height is None or width is None:
        size = tf.shape(image)[1:3] * tf.constant([rows, columns])
    else:
        size = tf.constant([height * rows, width * columns])
    # The kernels find the pixel i * (1 / factor) in float32; where that falls below a whole number, as for a factor
    # of 41, the middle of the pixel is safe.
    middle = any(np.float64(np.float32(1 / factor)) * factor < 1 for factor in (rows, columns))
    return tf.raw_ops.ResizeNearestNeighbor(images=image, size=size, half_pixel_centers=middle)


def patches(op: Any) -> Any:
    """Return the patches of an image by a convolution with ones and zeros; tf2onnx makes a broken graph of them."""
    import tensorflow as tf

    image, channels = op.inputs[0], op.inputs[0].shape[-1]
    _, rows, columns, _ = op.get_attr("ksizes")
    if channels is None or image.dtype != tf.float32:
        return None
    size = rows * columns * channels
    kernel = tf.constant(np.eye(size, dtype="float32").reshape(rows, columns, channels, size))
    padding = op.get_attr("padding").decode()
    made = tf.nn.conv2d(image, kernel, op.get_attr("strides"), padding, dilations=op.get_attr("rates"))
    return [made]


_PATCHES: dict[str, tuple[Any, ...]] = {"ExtractImagePatches": (patches,)}
RULES: dict[str, dict[str, tuple[Any, ...]]] = {"tflite": {**_PATCHES, "Reshape": (resized,)}, "onnx": _PATCHES}
