"""Batch normalization folded into the kernel and the bias of the layer before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import layers as L

from tfcompress.core.keras_private import copy_trainable
from tfcompress.core.passthrough import PassThrough, innermost
from tfcompress.core.sharding import gathered
from tfcompress.core.transform import carry, read
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.graph import LayerChoice
from tfcompress.graph.changed_arguments import built_anew
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.flatten import opened
from tfcompress.graph.index import index_of
from tfcompress.graph.rewrite import Call, rewritten
from tfcompress.graph.selectors import Layers
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.channel_axes import channels_of, is_linear
from tfcompress.layers.names import name_of


def remade(layer: L.Layer, **changes: Any) -> L.Layer:
    """Return a new built layer like `layer` with some arguments of its constructor changed.

    Weights that have the same name and shape in both are carried over, and so are the wrappers of this package with
    the state of their transforms.

    Args:
        layer: A built layer, or a wrapper of this package around one.
        **changes: Names of attributes of the innermost layer, and what they become.
    """
    if isinstance(layer, PassThrough):
        inner = remade(layer.layer, **changes)
        wrapper = layer.rewrap(inner)
        wrapper.build()
        if isinstance(layer, CompressedLayer):
            wrapper.take_state(layer)
        made = wrapper
    else:
        made = built_anew(layer, **changes)
        weights = {weight.name: weight for weight in layer.weights}
        for new in made.weights:
            old = weights.get(new.name)
            if old is not None and tuple(old.shape) == tuple(new.shape):
                carry(old, new)
                new.trainable = old.trainable
    copy_trainable(layer, made)
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


def folded(
    layer: L.Layer, scale: np.ndarray, offset: np.ndarray, values: Mapping[str, np.ndarray] | None = None
) -> L.Layer:
    """Return a new layer that computes `layer(x) * scale + offset`.

    Args:
        layer: A built layer that `channels_of` knows, without activation; or a wrapper of this package around one.
        scale: One factor per output channel, shape (channels,).
        offset: What is added then, shape (channels,).
        values: Those that weights of a plain layer are taken to have, by their names; by default their own.

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
    if traits_of(old).channels == "einsum_dense":
        last = old.equation[-1]
        axes = old.bias_axes or ""
        changes: dict[str, Any] = {"bias_axes": axes if last in axes else axes + last}
    else:
        changes = {"use_bias": True} if old.bias is None else {}
    made = remade(layer, **changes)
    new = innermost(made)
    values = values or {}
    for name, value in values.items():
        getattr(new, name).assign(value)
    factors = np.asarray(scale, "float64")
    kernel = getattr(new, channels.outputs)
    kernel.assign(read(kernel) * factors[channels.output_index])
    bias = 0.0 if old.bias is None else values.get("bias", read(old.bias)).astype("float64")
    new.bias.assign(np.broadcast_to(bias * factors + np.asarray(offset, "float64"), new.bias.shape))
    new.bias.trainable = kernel.trainable if old.bias is None else old.bias.trainable
    before = values[channels.outputs] if channels.outputs in values else seen(layer, channels.outputs)
    wanted = before * factors[channels.output_index]
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
                return np.asarray(gathered(value))
    return read(weight)


def close(got: np.ndarray, wanted: np.ndarray) -> bool:
    """Return whether two kernels agree to within a few roundings of each value."""
    return bool(np.allclose(got, wanted, rtol=1e-5, atol=1e-30))


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
        ValueError: If the model isn't built or can't be opened, if `keep` matches nothing, or if a normalization has
            a transform of its own, which would be lost.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="dense")])
    >>> model.add(keras.layers.BatchNormalization(name="norm"))
    >>> model.add(keras.layers.ReLU(name="relu"))
    >>> [layer.name for layer in fold_batch_norms(model).layers][1:]
    ['dense', 'relu']
    """
    choice = LayerChoice(() if keep is None else keep)
    flat = fold_graph(opened(model), choice)
    choice.check()
    return flat.model()


def fold_graph(flat: FlatGraph, keep: LayerChoice | None = None) -> FlatGraph:
    """Return a graph with batch normalizations folded; layers that stay are shared with `flat`.

    Args:
        flat: The graph; it is not changed.
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
        _check_no_transforms(norm)
        try:
            new_layers[id(layer)] = folded(layer, *affine_of(norm))
        except ValueError:
            continue  # a transform, such as a codebook, would not hold after it
        dropped.update(norms)

    def visit(call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if call not in dropped:
            return new_layers.get(id(call.operation), call.operation)(*arguments, **keywords)
        if flow.is_output(call):
            return L.Identity(name=call.operation.name, dtype=arguments[0].dtype)(arguments[0])
        return arguments[0]

    return rewritten(flat, visit)


def _check_no_transforms(norm: L.Layer) -> None:
    transforms = norm.transforms if isinstance(norm, CompressedLayer) else ()
    if transforms:
        raise ValueError(
            f"Expected batch normalizations that can be folded. Received: {norm.name!r}, whose gamma has "
            f"{', '.join(sorted({type(t).__name__ for _, t in transforms}))}, as pruning by 'bn_scale' puts there. "
            "Prune to the end and call tfcompress.shrink, then quantize; or take the recipe 'int8' without equalize, "
            "which folds nothing before training."
        )


def _foldable(call: Call, layer: L.Layer, flow: Flow) -> bool:
    """Return whether a call of what follows `layer` is a plain batch normalization over the last axis."""
    norm = innermost(call.operation)
    if name_of(norm) != "batchnormalization":
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
        flat: A functional model without nested ones, or a graph.
    """

    def __init__(self, flat: keras.Model | FlatGraph):
        self.calls = index_of(flat)
        self._of: dict[int, list[Call]] = {}
        for call in self.calls:
            self._of.setdefault(id(call.operation), []).append(call)

    def of(self, operation: Any) -> list[Call]:
        """Return the calls of one layer or operation."""
        return self._of[id(operation)]

    def layers(self) -> list[tuple[L.Layer, list[Call]]]:
        """Return the layers, each with its calls, in an order in which they can be called."""
        return [(of[0].operation, of) for of in self._of.values() if isinstance(of[0].operation, L.Layer)]

    def is_output(self, call: Call) -> bool:
        """Return whether a call gives an output of the model."""
        return any(map(self.calls.is_output, call.outputs))

    def only_consumer(self, call: Call) -> Call | None:
        """Return the one call that reads what `call` gives; `None` if there are others, or it is an output."""
        return self.calls.only_reader(call.outputs[0]) if len(call.outputs) == 1 else None
