"""Pooling of volumes as pooling of images: TFLite has operations for images alone."""

from __future__ import annotations

from typing import Any


def pooled(op: Any) -> Any:
    """Return the pooling of a volume over rows and columns first, then over depth.

    Both are exact: the largest of the largest is the largest; and the mean of means over a window that is a box is the
    mean over the box, also where it overlaps a padded border, as what lies outside isn't counted.
    """
    import tensorflow as tf

    x = op.inputs[0]
    if op.get_attr("data_format") != b"NDHWC" or x.dtype != tf.float32:
        return None
    make = tf.raw_ops.MaxPool if op.type == "MaxPool3D" else tf.raw_ops.AvgPool
    windows, steps, padding = op.get_attr("ksize"), op.get_attr("strides"), op.get_attr("padding").decode()

    def pool(image: Any, rows: int, columns: int) -> Any:
        window, step = ([1, at[rows] if rows else 1, at[columns] if columns else 1, 1] for at in (windows, steps))
        if window == step == [1, 1, 1, 1]:
            return image
        kind = {"input" if op.type == "MaxPool3D" else "value": image}
        return make(**kind, ksize=window, strides=step, padding=padding)

    batch, depth, height, width, channels = _sizes(x)
    images = pool(tf.reshape(x, [-1, height, width, channels]), 2, 3)
    _, height, width, _ = _sizes(images)
    lines = pool(tf.reshape(images, [-1, depth, height * width, channels]), 1, 0)
    made = tf.reshape(lines, [batch, _sizes(lines)[1], height, width, channels])
    made.set_shape(op.outputs[0].shape)
    return [made]


def _sizes(x: Any) -> list[Any]:
    import tensorflow as tf

    known, found = x.shape.as_list(), tf.shape(x)
    return [found[axis] if size is None else size for axis, size in enumerate(known)]


RULES: dict[str, dict[str, tuple[Any, ...]]] = {
    "tflite": {"MaxPool3D": (pooled,), "AvgPool3D": (pooled,)},
    "onnx": {},
}
