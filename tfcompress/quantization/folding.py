"""Batch normalization folded into the kernel and the bias of the layer before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers as L
from keras import ops, tree

from tfcompress.passthrough import PassThrough
from tfcompress.surgery import LayerChoice, rebuild
from tfcompress.surgery.choosing import Layers
from tfcompress.surgery.inputs import graph_of
from tfcompress.surgery.walking import Call, calls, walk
from tfcompress.transform import read
from tfcompress.wrapper import CompressedLayer


@dataclasses.dataclass(frozen=True, eq=False)
class Channels:
    """Which value of a layer's weights belongs to which channel, where channels are the last axis.

    Attributes:
        outputs: Name of the weight that makes the output channels: "kernel" or "pointwise_kernel".
        output_index: For each value of that weight (int, broadcast to its shape) its output channel.
        inputs: Name of the weight that takes the input channels in; `None` if none has them as an axis.
        input_index: For each value of that weight (int, broadcast to its shape) its input channel.
    """

    outputs: str
    output_index: np.ndarray
    inputs: str | None
    input_index: np.ndarray

    @property
    def output_count(self) -> int:
        """Number of output channels."""
        return int(self.output_index.max()) + 1

    @property
    def input_count(self) -> int:
        """Number of input channels; 0 if no weight has them as an axis."""
        return int(self.input_index.max(initial=-1)) + 1


def channels_of(layer: L.Layer) -> Channels | None:
    """Return which weights of a built layer make which channel; `None` if it is no linear map with channels last.

    Known are Dense, EinsumDense, and all convolutions: plain, grouped, depthwise, separable, transposed.

    Args:
        layer: A built layer, or a wrapper of this package around one.

    Example:

    >>> import keras
    >>> layer = keras.layers.DepthwiseConv2D(3, depth_multiplier=2)
    >>> layer.build((None, 8, 8, 2))
    >>> channels_of(layer).output_index.tolist()
    [[0, 1], [2, 3]]
    """
    layer = innermost(layer)
    if not type(layer).call.__module__.startswith("keras.") or getattr(layer, "data_format", None) == "channels_first":
        return None
    if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
        return None  # the kernel isn't what the layer multiplies by
    return next((find(layer) for classes, find in _KNOWN if isinstance(layer, classes)), None)


def _channels_of_conv(layer: L.Layer) -> Channels:
    inputs, outputs = layer.kernel.shape[-2:]
    groups = getattr(layer, "groups", 1)
    first = np.arange(outputs) // (outputs // groups) * inputs if groups > 1 else np.zeros(1, int)
    return Channels("kernel", np.arange(outputs), "kernel", np.arange(inputs)[:, None] + first)


def _channels_of_transpose(layer: L.Layer) -> Channels:
    outputs, inputs = layer.kernel.shape[-2:]
    return Channels("kernel", np.arange(outputs)[:, None], "kernel", np.arange(inputs)[None])


def _channels_of_depthwise(layer: L.Layer) -> Channels:
    inputs, multiplier = layer.kernel.shape[-2:]
    index = np.arange(inputs * multiplier).reshape(inputs, multiplier)
    return Channels("kernel", index, "kernel", np.arange(inputs)[:, None])


def _channels_of_separable(layer: L.Layer) -> Channels:
    inputs, outputs = layer.depthwise_kernel.shape[-2], layer.pointwise_kernel.shape[-1]
    return Channels("pointwise_kernel", np.arange(outputs), "depthwise_kernel", np.arange(inputs)[:, None])


def _channels_of_einsum(layer: L.EinsumDense) -> Channels | None:
    terms, outputs = layer.equation.replace(" ", "").split("->")
    inputs, kernel = terms.split(",")

    def index(label: str) -> np.ndarray:
        axis = kernel.index(label)
        return np.arange(layer.kernel.shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(kernel))])

    if kernel.count(outputs[-1]) != 1 or "." in kernel:
        return None
    takes = kernel.count(inputs[-1]) == 1
    return Channels(
        "kernel",
        index(outputs[-1]),
        "kernel" if takes else None,
        index(inputs[-1]) if takes else np.zeros(0, int),
    )


# The first that fits counts: some are subclasses of others.
_KNOWN: list[tuple[tuple[type, ...], Callable[[L.Layer], Channels | None]]] = [
    ((L.EinsumDense,), _channels_of_einsum),
    ((L.SeparableConv1D, L.SeparableConv2D), _channels_of_separable),
    ((L.DepthwiseConv1D, L.DepthwiseConv2D), _channels_of_depthwise),
    ((L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose), _channels_of_transpose),
    ((L.Dense, L.Conv1D, L.Conv2D, L.Conv3D), _channels_of_conv),
]


def innermost(layer: L.Layer) -> L.Layer:
    """Return the layer under all wrappers of this package, or the layer itself."""
    return layer.innermost if isinstance(layer, PassThrough) else layer


def is_linear(layer: L.Layer) -> bool:
    """Return whether a layer has no activation behind its kernel and bias."""
    return getattr(innermost(layer), "activation", None) in (None, keras.activations.linear)


def remade(layer: L.Layer, **changes: Any) -> L.Layer:
    """Return a new built layer like `layer` with some arguments of its constructor changed.

    Weights that have the same name and shape in both are carried over, and so are the wrappers of this package with
    the state of their transforms.

    Args:
        layer: A built layer, or a wrapper of this package around one.
        **changes: Names of arguments in the `get_config` of the innermost layer, and what they become.
    """
    if isinstance(layer, PassThrough):
        inner = remade(layer.layer, **changes)
        wrapper = layer.rewrap(inner)
        wrapper.build()
        if isinstance(layer, CompressedLayer):
            for old, new in zip(layer.state, wrapper.state, strict=True):
                new.assign(ops.copy(old.value))
        made = wrapper
    else:
        made = type(layer).from_config({**layer.get_config(), **changes})
        made.build_from_config(layer.get_build_config())
        weights = {weight.name: weight for weight in layer.weights}
        for new in made.weights:
            old = weights.get(new.name)
            if old is not None and tuple(old.shape) == tuple(new.shape):
                new.assign(ops.copy(old.value))
                new.trainable = old.trainable
    made._trainable = layer._trainable
    if hasattr(layer, "source_names"):
        made.source_names = layer.source_names
    return made


def affine_of(batch_norm: L.Layer) -> tuple[np.ndarray, np.ndarray]:
    """Return what a batch normalization does in inference: `x * scale + offset`, per channel.

    Args:
        batch_norm: A built BatchNormalization, or a wrapper of this package around one.

    Returns:
        `gamma / sqrt(moving_variance + epsilon)` and `beta - moving_mean * scale`, both float32 of shape (channels,).

    Example:

    >>> import keras
    >>> norm = keras.layers.BatchNormalization(epsilon=0.0, beta_initializer="ones")
    >>> norm.build((None, 2))
    >>> [x.tolist() for x in affine_of(norm)]
    [[1.0, 1.0], [1.0, 1.0]]
    """
    norm = innermost(batch_norm)
    scale = 1 / np.sqrt(read(norm.moving_variance).astype("float64") + norm.epsilon)
    if norm.scale:
        scale = scale * read(norm.gamma)
    offset = -read(norm.moving_mean).astype("float64") * scale
    if norm.center:
        offset = offset + read(norm.beta)
    return scale.astype("float32"), offset.astype("float32")


def folded(layer: L.Layer, scale: np.ndarray, offset: np.ndarray) -> L.Layer:
    """Return a new layer that computes `layer(x) * scale + offset`.

    Args:
        layer: A built layer that `channels_of` knows, without activation; or a wrapper of this package around one.
        scale: One factor per output channel, shape (channels,).
        offset: What is added then, shape (channels,).

    Returns:
        A built layer of the same class and name, with a bias. Wrappers and the state of their transforms are kept.

    Raises:
        ValueError: If the layer is of another kind, or if a transform of its wrapper doesn't give the scaled result
            for a scaled kernel, as a codebook doesn't; call `tfcompress.strip` first then.

    Example:

    >>> import keras, numpy as np
    >>> layer = keras.layers.Dense(2, use_bias=False, kernel_initializer="ones")
    >>> _ = layer(np.ones((1, 3)))
    >>> np.asarray(folded(layer, np.array([2.0, 3.0]), np.array([0.5, 0.0]))(np.ones((1, 3)))).tolist()
    [[6.5, 9.0]]
    """
    channels = channels_of(layer)
    if channels is None or not is_linear(layer) or channels.output_count != len(scale):
        raise ValueError(
            f"Expected a convolution or dense layer with {len(scale)} output channels, channels last, without "
            f"activation. Received: {layer.name!r} of class {type(innermost(layer)).__name__}. Leave it as it is."
        )
    old = innermost(layer)
    if isinstance(old, L.EinsumDense):
        last = old.equation[-1]
        axes = old.bias_axes or ""
        changes: dict[str, Any] = {"bias_axes": axes if last in axes else axes + last}
    else:
        changes = {"use_bias": True}
    made = remade(layer, **changes)
    new = innermost(made)
    factors = np.asarray(scale, "float64")
    kernel = getattr(new, channels.outputs)
    kernel.assign(read(kernel) * factors[channels.output_index])
    bias = 0.0 if old.bias is None else read(old.bias).astype("float64")
    new.bias.assign(np.broadcast_to(bias * factors + np.asarray(offset, "float64"), new.bias.shape))
    new.bias.trainable = kernel.trainable if old.bias is None else old.bias.trainable
    wanted = seen(layer, channels.outputs) * factors[channels.output_index]
    if not close(seen(made, channels.outputs), wanted):
        raise ValueError(
            f"Expected transforms that give the scaled result for a scaled kernel. Received: {layer.name!r}, whose "
            f"{', '.join(type(t).__name__ for _, t in layer.transforms)} doesn't. Call tfcompress.strip first."
        )
    return made


def seen(layer: L.Layer, name: str) -> np.ndarray:
    """Return a weight as the innermost layer sees it, through the transforms of the wrapper if there is one.

    Args:
        layer: A built layer, or a wrapper of this package around one.
        name: The attribute of the innermost layer, such as "kernel".
    """
    weight = getattr(innermost(layer), name)
    if isinstance(layer, CompressedLayer):
        for position, value in layer.transformed().items():
            if layer.layer.weights[position] is weight:
                return np.asarray(ops.convert_to_numpy(value))
    return read(weight)


def close(got: np.ndarray, wanted: np.ndarray) -> bool:
    """Return whether two kernels agree to within a few roundings of each value."""
    return bool(np.allclose(got, wanted, rtol=1e-5, atol=1e-30))


def standalone(scale: np.ndarray, offset: np.ndarray, shape: Sequence[int | None], name: str) -> list[L.Layer]:
    """Return layers that compute `x * scale + offset` one after the other, by a 1x1 DepthwiseConv2D with a bias.

    Args:
        scale: One factor per channel, shape (channels,).
        offset: What is added then, shape (channels,).
        shape: Shape of the tensor x, batch first, channels last. A tensor that isn't of rank 4 is reshaped to it and
            back, for which one size besides the batch may be unknown.
        name: Name of the last of the layers.

    Returns:
        One built DepthwiseConv2D, or a Reshape, a DepthwiseConv2D and a Reshape; float32.

    Raises:
        ValueError: If the shape can't be brought to rank 4.

    Example:

    >>> import numpy as np
    >>> [layer.name for layer in standalone(np.ones(3), np.zeros(3), (None, 5, 3), "norm")]
    ['norm_reshape', 'norm_depthwise', 'norm']
    """
    sizes = tuple(shape[1:])
    direct = len(sizes) == 3
    if not sizes or sizes[-1] != len(scale) or (not direct and sizes.count(None) > 1):
        raise ValueError(
            f"Expected a tensor with {len(scale)} channels as its last axis and at most one unknown size besides the "
            f"batch. Received: shape={tuple(shape)!r}. Give the model inputs of a fixed size."
        )
    layer = L.DepthwiseConv2D(1, name=name if direct else f"{name}_depthwise", dtype="float32")
    layer.build((None, None, None, len(scale)))
    layer.kernel.assign(np.reshape(scale, (1, 1, -1, 1)))
    layer.bias.assign(offset)
    if direct:
        return [layer]
    rest = [-1 if size is None else size for size in sizes[:-1]]
    flat = -1 if -1 in rest else int(np.prod(rest, dtype=int))
    before = L.Reshape((1, flat, len(scale)), name=f"{name}_reshape", dtype="float32")
    return [before, layer, L.Reshape((*rest, len(scale)), name=name, dtype="float32")]


def fold_batch_norms(model: keras.Model, keep: Layers = ()) -> keras.Model:
    """Return a model like `model` in which batch normalization is part of the layers before it.

    Folded is each BatchNormalization over the last axis whose input comes straight from a layer that `channels_of`
    knows, without activation, and goes nowhere else. A layer that is called several times is folded if each call is
    followed by one and the same normalization. Outputs in inference stay the same; training the result trains
    kernels and biases alone.

    The formulas are those of Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", section 3.2.

    Args:
        model: A built Keras model of any kind; it is not changed.
        keep: Names or regular expressions of normalizations to leave as they are, or of the layers before them; or a
            function from a layer to bool.

    Returns:
        A functional model with the same names of inputs, outputs and folded layers, not compiled.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model isn't built or can't be opened, or if `keep` matches nothing.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")])
    >>> model.add(keras.layers.BatchNormalization(name="norm"))
    >>> model.add(keras.layers.ReLU(name="relu"))
    >>> [layer.name for layer in fold_batch_norms(model).layers][1:]
    ['dense', 'relu']
    """
    choice = LayerChoice(() if keep is None else keep)
    flat = fold_graph(rebuild(model), choice)
    choice.check()
    return flat


def fold_graph(flat: keras.Model, keep: LayerChoice | None = None) -> keras.Model:
    """Return a flat functional model with batch normalizations folded; layers that stay are shared with `flat`.

    Args:
        flat: A functional model without nested ones, as `tfcompress.surgery.rebuild` returns; it is not changed.
        keep: Which normalizations are left as they are, and the layers before which of them.
    """
    flow = Flow(flat)
    new_layers: dict[int, L.Layer] = {}
    dropped: set[Call] = set()
    kept = {
        id(call.operation)
        for call in flow.calls
        if isinstance(call.operation, L.Layer) and keep is not None and keep.includes(call.operation)
    }
    for layer, layer_calls in flow.layers():
        after = [flow.only_consumer(call) for call in layer_calls]
        norms = [call for call in after if call is not None and _foldable(call, layer, flow)]
        if len(norms) < len(layer_calls) or len({id(call.operation) for call in norms}) > 1:
            continue
        norm = norms[0].operation
        if not is_linear(layer) or channels_of(layer) is None or {id(layer), id(norm)} & kept:
            continue
        try:
            new_layers[id(layer)] = folded(layer, *affine_of(norm))
        except ValueError:
            continue  # a transform, such as a codebook, would not survive it
        dropped.update(norms)

    def visit(call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if call not in dropped:
            return new_layers.get(id(call.operation), call.operation)(*arguments, **keywords)
        if flow.is_output(call):
            return L.Identity(name=call.operation.name, dtype=arguments[0].dtype)(arguments[0])
        return arguments[0]

    return walk(flat, visit)


def _foldable(call: Call, layer: L.Layer, flow: Flow) -> bool:
    """Return whether a call of what follows `layer` is a plain batch normalization over the last axis."""
    norm = innermost(call.operation)
    if not isinstance(norm, L.BatchNormalization) or type(norm).call is not L.BatchNormalization.call:
        return False
    if len(call.inputs) != 1 or len(call.arguments) != 1:
        return False  # it has a mask
    if getattr(call.operation, "pinned", None) or call.keywords.get("training"):
        return False  # it always normalizes with the statistics of the batch
    if flow.is_output(call) and len(flow.of(call.operation)) > 1:
        return False  # its name is that of an output, and of the layer that remains
    same = innermost(layer).compute_dtype == norm.compute_dtype
    return same and norm.axis in (-1, len(call.inputs[0].shape) - 1)


class Flow:
    """Who calls what, and who reads it, in a flat functional graph.

    Args:
        model: A functional model without nested ones.
    """

    def __init__(self, model: keras.Model):
        self.calls = calls(model)
        self._outputs = {id(x) for x in tree.flatten(graph_of(model)._outputs_struct)}
        self._consumers: dict[int, list[Call]] = {}
        self._of: dict[int, list[Call]] = {}
        for call in self.calls:
            self._of.setdefault(id(call.operation), []).append(call)
            for tensor in call.inputs:
                self._consumers.setdefault(id(tensor), []).append(call)

    def of(self, operation: Any) -> list[Call]:
        """Return the calls of one layer or operation."""
        return self._of[id(operation)]

    def layers(self) -> list[tuple[L.Layer, list[Call]]]:
        """Return the layers, each with its calls, in an order in which they can be called."""
        return [(of[0].operation, of) for of in self._of.values() if isinstance(of[0].operation, L.Layer)]

    def is_output(self, call: Call) -> bool:
        """Return whether a call gives an output of the model."""
        return any(id(tensor) in self._outputs for tensor in call.outputs)

    def only_consumer(self, call: Call) -> Call | None:
        """Return the one call that reads what `call` gives; `None` if there are others, or it is an output."""
        readers = self._consumers.get(id(call.outputs[0]), [])
        if len(call.outputs) != 1 or len(readers) != 1 or self.is_output(call):
            return None
        return readers[0]
