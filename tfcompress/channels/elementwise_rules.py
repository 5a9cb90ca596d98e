"""Rules of what keeps all channels apart: activations, sums, normalization by statistics, and what reduces an axis."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import tree

from tfcompress.channels.tracker import Axes, Labels, Step, channel_axis
from tfcompress.layers.catalogue import traits_of_function
from tfcompress.layers.names import name_of_function


def unary(step: Step) -> list[Axes]:
    """Each value by itself."""
    if len(step.inputs) > 1:
        return nary(step)
    if any(np.ndim(getattr(step.layer, name, 0)) for name in ("x_min", "x_max")):  # of an operation `clip`
        for labels in step.inputs[0]:
            step.block(labels, "has limits for each of its channels")
    return [step.inputs[0] for _ in step.call.outputs]


def nary(step: Step) -> list[Axes]:
    """Value by value, with broadcasting: axes of the same size have the same channels."""
    output = step.call.outputs[0]
    rank = len(output.shape)
    parts = [_aligned(x.shape, axes, rank) for x, axes in zip(step.call.inputs, step.inputs, strict=True)] + [
        _aligned(np.shape(x), (None,) * np.ndim(x), rank) for x in _constants(step.call)
    ]
    found: list[Labels] = []
    for axis in range(rank):
        whole: list[Labels] = []
        for size, labels in (part[axis] for part in parts):
            if size == 1 and output.shape[axis] != 1:
                step.block(labels, "spreads it over an axis")
            elif size is not None or labels is not None:
                whole.append(labels)
        first = next((labels for labels in whole if labels is not None), None)
        if first is not None:
            for labels in whole:
                if labels is not first:
                    step.link(first, labels)
        found.append(first)
    return [tuple(found)]


def _aligned(shape: Any, axes: Axes, rank: int) -> list[tuple[int | None, Labels]]:
    missing = rank - len(shape)
    return [(1, None)] * missing + list(zip(shape, axes, strict=True))


def _constants(call: Any) -> list[Any]:
    leaves = tree.flatten((call.arguments, call.keywords))
    return [x for x in leaves if not keras.utils.is_keras_tensor(x) and (isinstance(x, keras.Variable) or np.ndim(x))]


def activate(step: Step, axes: Axes) -> Axes:
    """Follow the activation that a layer applies to its output."""
    activation = getattr(step.layer, "activation", None)
    rule = "unary" if activation is None else traits_of_function(activation).channels
    if rule == "normalizes":
        step.block(axes[-1], f"applies {name_of_function(activation)} over it")
    elif rule != "unary":
        for labels in axes:
            step.block(labels, f"has an activation, {activation!r}, that is not known to keep channels apart")
    return axes


def batch_normalization(step: Step) -> list[Axes]:
    """One scale and offset for each channel."""
    layer, axes = step.layer, step.inputs[0]
    for variable in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance):
        step.follow(variable, 0, axes[layer.axis])
    return [axes]


def prelu(step: Step) -> list[Axes]:
    """One slope for each value; axes may share it."""
    axes = step.inputs[0]
    alpha = step.layer.alpha
    for axis, labels in enumerate(axes):
        if labels is not None and (alpha.shape[axis - 1] > 1 or len(labels) == 1):
            step.follow(alpha, axis - 1, labels)
    return [axes]


def normalizes(step: Step) -> list[Axes]:
    """Statistics over some axes, or softmax, maybe with a mask: these can't lose channels."""
    axes = step.inputs[0] if len(step.inputs) == 1 else nary(step)[0]
    over = getattr(step.layer, "axis", -1)
    for axis in range(len(axes)) if over is None else np.atleast_1d(over):
        step.block(axes[axis], "normalizes over it")
    return [axes for _ in step.call.outputs]


def group_normalization(step: Step) -> list[Axes]:
    """Statistics over groups of channels."""
    axes, layer = step.inputs[0], step.layer
    if layer.groups == step.call.inputs[0].shape[layer.axis]:
        for variable in (layer.gamma, layer.beta):
            step.follow(variable, 0, axes[layer.axis])
        step.block_others(axes, layer.axis, "normalizes over it")
    else:
        for labels in axes:
            step.block(labels, f"normalizes over {layer.groups} groups of it")
    return [axes]


def rescaling(step: Step) -> list[Axes]:
    """A factor and an offset, for all values or for each index of the last axis."""
    axes = step.inputs[0]
    if any(math.prod(np.shape(value)) != 1 for value in (step.layer.scale, step.layer.offset)):
        step.block(axes[-1], "has a scale for each of its channels in its configuration")
    return [axes]


def normalization(step: Step) -> list[Axes]:
    """Statistics of data that was adapted to."""
    axes = step.inputs[0]
    for axis in np.atleast_1d(step.layer.axis if step.layer.axis is not None else []):
        step.block(axes[axis], "has adapted statistics for each of its channels")
    return [axes]


def reduction(step: Step) -> list[Axes]:
    """Axes that are summed, averaged or searched over can't lose channels."""
    axes, layer = step.inputs[0], step.layer
    over = range(len(axes)) if layer.axis is None else {int(axis) % len(axes) for axis in np.atleast_1d(layer.axis)}
    for axis in over:
        step.block(axes[axis], "reduces it")
    if getattr(layer, "keepdims", False):
        return [tuple(None if axis in over else labels for axis, labels in enumerate(axes))]
    return [tuple(labels for axis, labels in enumerate(axes) if axis not in over)]


def global_pooling(step: Step) -> list[Axes]:
    """All axes but the batch and the channels are gone."""
    axes, output = step.inputs[0], step.call.outputs[0]
    axis = channel_axis(step.layer, len(axes))
    step.block_others(axes, axis, "pools over it")
    if len(output.shape) == len(axes):
        return [tuple(labels if at == axis else None for at, labels in enumerate(axes))]
    return [(None, axes[axis])]


def local(step: Step) -> list[Axes]:
    """What works on space alone: pooling, padding, cropping, resizing."""
    axes = step.inputs[0]
    axis = channel_axis(step.layer, len(axes))
    step.block_others(axes, axis, "works along it")
    return [tuple(labels if at == axis else None for at, labels in enumerate(axes))]
