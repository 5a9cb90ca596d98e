"""Cross-layer equalization: weights moved from one layer to the next until all their channels have like ranges."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import layers as L

from tfcompress.core.passthrough import innermost
from tfcompress.core.transform import read
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.flatten import opened
from tfcompress.graph.rewrite import Call, rewritten
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.channel_axes import Channels, channels_of
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.batch_norm_folding import Flow, close, fold_graph, remade, seen

_HOMOGENEOUS = (None, keras.activations.linear, keras.activations.relu, keras.activations.leaky_relu)


@dataclasses.dataclass(eq=False)
class _Pair:
    """Two layers, the second of which reads the first through operations that scale with their input.

    `scale` is what each channel between them is divided by, all in all; `least` what that may at least be.
    """

    first: L.Layer
    second: L.Layer
    scale: np.ndarray
    least: np.ndarray
    capped: list[Call]  # those with a ReLU6 between the two, a call of `first` itself included


def equalize(
    model: keras.Model, iterations: int = 40, tolerance: float = 1e-3, replace_relu6: bool = False
) -> keras.Model:
    """Return a model with the same outputs, in whose layers all channels of a kernel have like ranges.

    Batch normalization is folded first. Then, for each two layers with nothing between them but what scales with its
    input (ReLU, leaky ReLU, pooling, padding, ...), output channel i of the first is divided, and input channel i of
    the second multiplied, by `s_i = sqrt(r1_i * r2_i) / r2_i = sqrt(r1_i / r2_i)`, where r is the largest |w| of the
    channel; again and again, until nothing moves: a depthwise convolution between two others is the second of one
    pair and the first of the next. One scale for a whole kernel then serves all its channels.

    After Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1,
    with one limit: no channel of a bias grows beyond the largest |b| of its layer, since a large bias of a channel with
    hardly any weights would widen the range of the activations.

    Args:
        model: A built Keras model of any kind; it is not changed.
        iterations: How often all pairs are gone through at most.
        tolerance: It is done when no s_i is further from 1 than this.
        replace_relu6: ReLU6 doesn't scale with its input, so layers with it between them are left alone. With `True`
            it is made a ReLU there, as AIMET does, and the outputs change where it saturated.

    Returns:
        A functional model with the same names of inputs, outputs and layers, not compiled.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model isn't built or can't be opened, or an argument is out of its range.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, "relu"), keras.layers.Dense(1)])
    >>> model.set_weights([np.array([[0.0625, 1.0]]), np.zeros(2), np.ones((2, 1)), np.zeros(1)])
    >>> [kernel.tolist() for kernel in equalize(model).get_weights()[::2]]
    [[[0.25, 1.0]], [[0.25], [1.0]]]
    """
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"Expected iterations to be a whole number of at least 1. Received: {iterations!r}.")
    if not tolerance >= 0:
        raise ValueError(f"Expected a tolerance of at least 0. Received: tolerance={tolerance!r}.")
    return equalize_graph(fold_graph(opened(model)), iterations, tolerance, replace_relu6).model()


def equalize_graph(
    flat: FlatGraph, iterations: int = 40, tolerance: float = 1e-3, replace_relu6: bool = False
) -> FlatGraph:
    """Return a graph equalized; the layers that stay as they are are shared with `flat`.

    Args:
        flat: The graph, normalizations folded; it is not changed.
        iterations: See `equalize`.
        tolerance: See `equalize`.
        replace_relu6: See `equalize`.
    """
    pairs = _pairs(Flow(flat), replace_relu6)
    layers = {id(layer): layer for pair in pairs for layer in (pair.first, pair.second)}
    weights = {key: _Weights(layer) for key, layer in layers.items()}
    for _ in range(iterations):
        moved = 0.0
        for pair in pairs:
            first, second = weights[id(pair.first)], weights[id(pair.second)]
            old, new = first.output_ranges(), second.input_ranges()
            usable = (old > 0) & (new > 0)  # pruned and dead channels stay
            scale = np.sqrt(np.where(usable, old, 1.0) / np.where(usable, new, 1.0))
            scale = np.where(usable, np.maximum(scale, pair.least / pair.scale), 1.0)
            first.divide_outputs(scale)
            second.multiply_inputs(scale)
            pair.scale = pair.scale * scale
            moved = max(moved, float(np.max(np.abs(scale - 1), initial=0.0)))
        if moved <= tolerance:
            break
    made = {key: weight.layer() for key, weight in weights.items()}
    capped = {call for pair in pairs for call in pair.capped}

    def visit(call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        layer = made.get(id(call.operation), call.operation)
        if call in capped:
            if call.operation is layer:  # an activation that stands alone
                return L.ReLU(name=layer.name, dtype=arguments[0].dtype)(arguments[0])
            layer = remade(layer, activation=keras.activations.relu)
        return layer(*arguments, **keywords)

    return rewritten(flat, visit)


def channel_ranges(layer: L.Layer) -> np.ndarray:
    """Return the largest |w| of each output channel of a layer's kernel, float64 of shape (channels,).

    Args:
        layer: A built layer that `layers.channel_axes.channels_of` knows, or a wrapper around one, whose
            transforms then count.
    """
    return _Weights(layer).output_ranges()


class _Weights:
    """The kernels and the bias of one layer as float64 arrays, scaled in place."""

    def __init__(self, layer: L.Layer):
        channels = channels_of(layer)
        if channels is None:
            raise ValueError(
                f"Expected a convolution or dense layer, channels last. Received: {layer.name!r} of class "
                f"{type(innermost(layer)).__name__}. Name another layer."
            )
        self.old, self.channels = layer, channels
        names = {channels.outputs, channels.inputs or channels.outputs}
        # What the layer sees gives the ranges; how it is scaled is then done to the weight itself.
        self.size = {name: np.abs(seen(layer, name)).astype("float64") for name in names}
        self.factor = {name: np.ones((1,) * self.size[name].ndim) for name in names}
        self.bias_factor: np.ndarray = np.ones(1)

    def output_ranges(self) -> np.ndarray:
        return _ranges(self.size[self.channels.outputs], self.channels.output_index, self.channels.output_count)

    def input_ranges(self) -> np.ndarray:
        name = self.channels.inputs or self.channels.outputs
        return _ranges(self.size[name], self.channels.input_index, self.channels.input_count)

    def divide_outputs(self, scale: np.ndarray) -> None:
        self._multiply(self.channels.outputs, 1 / scale[self.channels.output_index])
        self.bias_factor = self.bias_factor / scale

    def multiply_inputs(self, scale: np.ndarray) -> None:
        self._multiply(self.channels.inputs or self.channels.outputs, scale[self.channels.input_index])

    def _multiply(self, name: str, factor: np.ndarray) -> None:
        self.size[name] *= factor
        self.factor[name] = self.factor[name] * factor

    def layer(self) -> L.Layer:
        """Return a new layer with the scaled weights, in the wrapper of the old one."""
        made = remade(self.old)
        inner = innermost(made)
        for name, factor in self.factor.items():
            weight = getattr(inner, name)
            weight.assign(read(weight) * factor)
        if inner.bias is not None:
            inner.bias.assign(read(inner.bias) * self.bias_factor)
        return made


def _ranges(size: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Return the largest of `size` for each of the channels that `index`, broadcast to its shape, names."""
    shape = (1,) * (size.ndim - index.ndim) + index.shape
    alike = tuple(axis for axis, length in enumerate(shape) if length == 1)
    largest = size.max(axis=alike, keepdims=True)
    ranges = np.zeros(count)
    np.maximum.at(ranges, np.broadcast_to(index.reshape(shape), largest.shape), largest)
    return ranges


def _pairs(flow: Flow, replace_relu6: bool) -> list[_Pair]:
    pairs = []
    for layer, layer_calls in flow.layers():
        if len(layer_calls) > 1 or not _scales(layer):
            continue
        found = _next(flow, layer_calls[0], replace_relu6)
        if found is None or len(flow.of(found[0])) > 1 or not _scales(found[0]):
            continue
        second, capped = found
        first_channels, second_channels = channels_of(layer), channels_of(second)
        assert first_channels is not None and second_channels is not None
        count = first_channels.output_count
        bias = innermost(layer).bias
        if second_channels.input_count != count or (bias is not None and bias.shape[-1] != count):
            continue
        pairs.append(_Pair(layer, second, np.ones(count), _least(layer, first_channels), capped))
    return pairs


def _least(layer: L.Layer, channels: Channels) -> np.ndarray:
    """Return what each channel may at least be divided by, so that its bias isn't beyond the largest."""
    bias = innermost(layer).bias
    if bias is None:
        return np.zeros(channels.output_count)
    size = np.abs(read(bias).astype("float64")).reshape(-1, channels.output_count).max(axis=0)
    return size / max(float(size.max()), 1e-30)


def _next(flow: Flow, call: Call, replace_relu6: bool) -> tuple[L.Layer, list[Call]] | None:
    """Return the layer with a kernel that alone reads what `call` gives, and the calls with a ReLU6 on the way."""
    capped: list[Call] = []
    while True:
        kind = _kind(call)
        if kind is None or (kind == "relu6" and not replace_relu6):
            return None
        if kind == "relu6":
            capped.append(call)
        consumer = flow.only_consumer(call)
        if consumer is None or len(consumer.inputs) != 1:
            return None
        if isinstance(consumer.operation, L.Layer) and channels_of(consumer.operation) is not None:
            return consumer.operation, capped
        if len(flow.of(consumer.operation)) > 1 and replace_relu6 and _kind(consumer) == "relu6":
            return None  # a shared one can't be replaced in one place
        call = consumer


def _kind(call: Call) -> str | None:
    """Return "scales" if what a call gives scales with its input (or kernel), "relu6", or `None`."""
    operation = innermost(call.operation)
    if not name_of(operation):
        return None
    if isinstance(operation, L.ReLU) or type(operation).__name__ == "ReLU":  # the second is keras.activations.relu
        return _kind_of_relu(operation)
    if not isinstance(operation, L.Layer):
        scales = "scales" if traits_of(operation).homogeneous else None
        return "relu6" if name_of(operation) == "relu6" else scales
    if channels_of(operation) is not None or isinstance(operation, L.Activation):
        return _kind_of_function(getattr(operation, "activation", None))
    last = getattr(operation, "data_format", "channels_last") != "channels_first"
    return "scales" if traits_of(operation).homogeneous and last else None


def _kind_of_function(activation: Any) -> str | None:
    if activation is keras.activations.relu6:
        return "relu6"
    if isinstance(activation, L.ReLU):
        return _kind_of_relu(activation) if activation.max_value is None else None
    return "scales" if activation in _HOMOGENEOUS else None


def _kind_of_relu(relu: Any) -> str | None:
    if relu.threshold:
        return None
    if relu.max_value is None:
        return "scales"
    return "relu6" if relu.max_value == 6 and not relu.negative_slope else None


def _scales(layer: L.Layer) -> bool:
    """Return whether a layer with a kernel sees a scaled one where its weights are scaled, each value on its own."""
    channels = channels_of(layer)
    if channels is None:
        return False
    if not isinstance(layer, CompressedLayer):
        return True
    generator = np.random.default_rng(0)
    probe = remade(layer)
    for name in {channels.outputs, channels.inputs or channels.outputs}:
        weight = getattr(innermost(probe), name)
        factor = generator.uniform(0.5, 2.0, weight.shape).astype("float32")
        weight.assign(read(weight) * factor)
        if not close(seen(probe, name), seen(layer, name) * factor):
            return False
    return True
