"""Dilated convolutions of images whose sizes are free, as one operation rather than as batches of pixels."""

from __future__ import annotations

from typing import Any

from tfcompress.tracing.rewriting.operation_queries import made_by, source, value

_KINDS = ("Conv2D", "DepthwiseConv2dNative", "Conv3D")


def dilated(op: Any) -> Any:
    """Return a dilated convolution with constant padding, where TensorFlow splits a padded one at run time.

    TensorFlow moves the pixels that lie a dilation apart into batches, convolves those, and moves them back. It pads
    as the layer says, and by what makes the size a multiple of the dilation, which it cuts off again. tf2onnx joins
    these operations only where nothing but the second is padded.
    """
    import tensorflow as tf

    squeeze = made_by(op.inputs[0], "Squeeze")
    convolved = source(op.inputs[0] if squeeze is None else squeeze.inputs[0]).op
    if convolved.type not in _KINDS:
        return None
    expand = None if squeeze is None else made_by(convolved.inputs[0], "ExpandDims")
    split = made_by(convolved.inputs[0] if expand is None else expand.inputs[0], "SpaceToBatchND")
    if split is None or (squeeze is None) != (expand is None) or not _plain(convolved):
        return None
    rates, again = value(split.inputs[1]), value(op.inputs[1])
    if rates is None or again is None or rates.tolist() != again.tolist():
        return None
    one = squeeze is not None and expand is not None
    if squeeze is not None and expand is not None:  # a line, as an image of one row
        row = value(expand.inputs[1])
        if row is None or int(row) not in (1, -3) or squeeze.get_attr("squeeze_dims") not in ([1], [-3]):
            return None
    padding = _padding(split.inputs[2], op.inputs[2])
    if padding is None or len(rates) != convolved.inputs[0].shape.rank - 2 - one:
        return None
    image, above = split.inputs[0], [[0, 0]] * (1 + one)
    pads, strides = [*above, *padding, [0, 0]], [1] * (len(padding) + 2 + one)
    dilations = [1] * (1 + one) + [int(rate) for rate in rates] + [1]
    image = tf.expand_dims(image, 1) if one else image
    kernel = convolved.inputs[1]
    if convolved.type == "Conv3D":
        image = tf.pad(image, pads)
        made = tf.raw_ops.Conv3D(input=image, filter=kernel, strides=strides, padding="VALID", dilations=dilations)
    else:
        make = tf.raw_ops.Conv2D if convolved.type == "Conv2D" else tf.raw_ops.DepthwiseConv2dNative
        flat = [number for pair in pads for number in pair]
        rest = {"padding": "EXPLICIT", "explicit_paddings": flat, "strides": strides, "dilations": dilations}
        made = make(input=image, filter=kernel, **rest)
    made = tf.squeeze(made, [1]) if one else made
    made.set_shape(op.outputs[0].shape)
    return [made]


def _plain(convolved: Any) -> bool:
    """Return whether a convolution moves by one pixel, sees neighbours, pads nothing and has its channels last."""
    strides, dilations = convolved.get_attr("strides"), convolved.get_attr("dilations")
    layout, padding = convolved.get_attr("data_format"), convolved.get_attr("padding")
    return set(strides) == set(dilations) == {1} and layout in (b"NHWC", b"NDHWC") and padding == b"VALID"


def _padding(paddings: Any, crops: Any) -> list[list[int]] | None:
    """Return what stays of computed paddings behind the crops, where that is known while tracing."""
    padded, cropped = _pairs(paddings), _pairs(crops)
    if value(paddings) is not None or padded is None or cropped is None or len(padded) != len(cropped):
        return None
    found = []
    for (before, behind), (nothing, extra) in zip(padded, cropped, strict=True):
        total = made_by(_element(behind), "AddV2")
        if total is None or source(total.inputs[1]) is not source(_element(extra)) or value(nothing) != 0:
            return None
        first, last, place = value(before), value(total.inputs[0]), _place(behind)
        if first is None or last is None or place is None or place != _place(extra):
            return None
        found.append([int(first), int(last[place])])
    return found


def _pairs(tensor: Any) -> list[Any] | None:
    """Return the two numbers of each dimension, of a tensor that is put together of them."""
    pack = source(tensor, "StridedSlice").op
    rows = [source(row).op for row in pack.inputs] if pack.type == "Pack" and pack.get_attr("axis") == 0 else []
    if not rows or any(row.type != "Pack" or len(row.inputs) != 2 for row in rows):
        return None
    return [list(row.inputs) for row in rows] if pack.outputs[0].shape == tensor.shape else None


def _element(tensor: Any) -> Any:
    """Return the vector that a number is an element of."""
    op = source(tensor).op
    return op.inputs[0] if op.type == "StridedSlice" else op.outputs[0]


def _place(tensor: Any) -> int | None:
    """Return the place of a number in its vector; None: it isn't known."""
    op = source(tensor).op
    start = value(op.inputs[1]) if op.type == "StridedSlice" and tensor.shape.rank == 0 else None
    return None if start is None else int(start[0])


RULES: dict[str, dict[str, tuple[Any, ...]]] = {"tflite": {}, "onnx": {"BatchToSpaceND": (dilated,)}}
