"""Rules of layers with kernels: where their channels come in, and where they come out."""

from __future__ import annotations

import numpy as np

from tfcompress.channels.elementwise_rules import activate
from tfcompress.channels.tracker import Axes, Labels, Step, channel_axis
from tfcompress.layers.einsum_equations import equation_of


def dense(step: Step) -> list[Axes]:
    """Sums over the last axis."""
    layer, axes = step.layer, step.inputs[0]
    if _altered(step):
        return _blocked(step)
    step.read(layer.kernel, 0, -1)
    outputs = step.site(layer.kernel, 1, "producer").labels
    step.follow(layer.bias, 0, outputs)
    return [activate(step, (*axes[:-1], outputs))]


def convolution(step: Step) -> list[Axes]:
    """A plain convolution; of a grouped one whole groups go together."""
    layer, axes = step.layer, step.inputs[0]
    axis = channel_axis(layer, len(axes))
    if _altered(step):
        return _blocked(step)
    step.block_others(axes, axis, "works along it")
    if layer.groups == 1:
        step.read(layer.kernel, -2, axis)
        outputs = step.site(layer.kernel, -1, "producer").labels
    else:
        outputs = step.site(layer.kernel, -1, "follower").labels
        first = np.repeat(outputs[:: layer.filters // layer.groups], layer.kernel.shape[-2])
        step.link(axes[axis], first)
        step.link(outputs, np.repeat(outputs[:: layer.filters // layer.groups], layer.filters // layer.groups))
    step.follow(layer.bias, 0, outputs)
    return [activate(step, _with_channels(axes, axis, outputs))]


def transposed(step: Step) -> list[Axes]:
    """A transposed convolution, in whose kernel the outputs stand before the inputs."""
    layer, axes = step.layer, step.inputs[0]
    axis = channel_axis(layer, len(axes))
    step.block_others(axes, axis, "works along it")
    step.read(layer.kernel, -1, axis)
    outputs = step.site(layer.kernel, -2, "producer").labels
    step.follow(layer.bias, 0, outputs)
    return [activate(step, _with_channels(axes, axis, outputs))]


def depthwise(step: Step) -> list[Axes]:
    """One filter, or `depth_multiplier` of them, for each channel."""
    layer, axes = step.layer, step.inputs[0]
    axis = channel_axis(layer, len(axes))
    step.block_others(axes, axis, "works along it")
    step.follow(layer.kernel, -2, axes[axis])
    outputs = _repeated(axes[axis], layer.depth_multiplier)
    step.follow(layer.bias, 0, outputs)
    return [activate(step, _with_channels(axes, axis, outputs))]


def separable(step: Step) -> list[Axes]:
    """A depthwise convolution, then a sum over its channels."""
    layer, axes = step.layer, step.inputs[0]
    axis = channel_axis(layer, len(axes))
    step.block_others(axes, axis, "works along it")
    step.follow(layer.depthwise_kernel, -2, axes[axis])
    step.read(layer.pointwise_kernel, -2, axis, repeats=layer.depth_multiplier)
    outputs = step.site(layer.pointwise_kernel, -1, "producer").labels
    step.follow(layer.bias, 0, outputs)
    return [activate(step, _with_channels(axes, axis, outputs))]


def embedding(step: Step) -> list[Axes]:
    """A row of a table for each number."""
    for labels in step.inputs[0]:
        step.block(labels, "looks numbers up")
    if _altered(step):
        return _blocked(step)
    return [(*step.inputs[0], step.site(step.layer.embeddings, 1, "producer").labels)]


def parameter(step: Step) -> list[Axes]:
    """A weight of a subclassed model, which stands in the graph as a layer."""
    weight = step.layer.weight
    if not len(weight.shape):
        return [()]
    labels = step.site(weight, -1, "producer").labels
    return [(*(None,) * (len(weight.shape) - 1), labels)]


def einsum_dense(step: Step) -> list[Axes]:
    """Letters of the equation: in the input and kernel alone, summed; in the kernel and output alone, made."""
    layer, axes = step.layer, step.inputs[0]
    letters = equation_of(layer, len(axes))
    if letters is None or _altered(step):
        return _blocked(step)
    found: dict[str, Labels] = {}
    for axis, letter in enumerate(letters.inputs):
        if letter in letters.kernel and letter in letters.output:
            step.follow(layer.kernel, letters.kernel.index(letter), axes[axis])
        elif letter in letters.kernel:
            step.read(layer.kernel, letters.kernel.index(letter), axis)
        elif letter not in letters.output:
            step.block(axes[axis], "sums over it")
        found[letter] = axes[axis]
    for axis, letter in enumerate(letters.kernel):
        if letter not in letters.inputs and letter in letters.output:
            found[letter] = step.site(layer.kernel, axis, "producer").labels
    outputs = tuple(found[letter] for letter in letters.output)
    if layer.bias is not None:
        shape = layer.bias.shape
        for at, labels in enumerate(outputs[len(outputs) - len(shape) :]):
            if labels is not None and (shape[at] > 1 or len(labels) == 1):
                step.follow(layer.bias, at, labels)
    return [activate(step, outputs)]


def _with_channels(axes: Axes, axis: int, labels: Labels) -> Axes:
    return tuple(labels if at == axis else None for at in range(len(axes)))


def _repeated(labels: Labels, times: int) -> Labels:
    return None if labels is None else np.repeat(labels, times)


def _altered(step: Step) -> bool:
    return bool(getattr(step.layer, "lora_enabled", False) or getattr(step.layer, "quantization_mode", None))


def _blocked(step: Step) -> list[Axes]:
    for labels in step.inputs[0]:
        step.block(labels, "is quantized by Keras, has LoRA, or has an equation that can't be followed")
    return [(None,) * len(x.shape) for x in step.call.outputs]
