"""The largest values of volumes, found by pooling images: TFLite has operations for images alone."""

from __future__ import annotations

from typing import Any


def pooled(op: Any) -> Any:
    """Return the pooling of a volume over rows and columns first, then over depth: the largest of the largest.

    Means aren't taken so: between integers TFLite would round them twice.
    """
    import tensorflow as tf

    x = op.inputs[0]
    if op.get_attr("data_format") != b"NDHWC" or x.dtype != tf.float32:
        return None
    windows, steps, padding = op.get_attr("ksize"), op.get_attr("strides"), op.get_attr("padding").decode()

    def pool(image: Any, rows: int, columns: int) -> Any:
        window, step = ([1, at[rows] if rows else 1, at[columns] if columns else 1, 1] for at in (windows, steps))
        if window == step == [1, 1, 1, 1]:
            return image
        return tf.raw_ops.MaxPool(input=image, ksize=window, strides=step, padding=padding)

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


RULES: dict[str, dict[str, tuple[Any, ...]]] = {"tflite": {"MaxPool3D": (pooled,)}, "onnx": {}}
