"""Pruning a model: wrapping its layers, or at one stroke."""

from __future__ import annotations

import uuid
from typing import Any

import keras
import numpy as np
from keras.layers import Layer

from tfcompress.pruning.config import PruneConfig
from tfcompress.pruning.mask import Mask
from tfcompress.pruning.schedules import ConstantSparsity
from tfcompress.surgery import LayerChoice, check_built, kernel_positions, rebuild, strip
from tfcompress.surgery.choosing import Layers
from tfcompress.transform import read
from tfcompress.wrapper import CompressedLayer, inner_weights, with_transforms, wrapped_layers


def prune(model: keras.Model, config: PruneConfig | Any, layers: Layers = None) -> keras.Model:
    """Return a model like `model` that prunes itself while it is trained.

    In every training step the layers see masked weights; at the steps that the schedule names, the masks are
    computed anew. The weights under the mask are really zero at the end of every batch (on TensorFlow; on
    JAX when the model is stripped). No callback is needed; training resumes in mid-schedule from a saved
    file.

    Args:
        model: A built Keras model of any kind; it is not changed.
        config: A `PruneConfig`, a schedule, or the share of zeros in [0, 1) from the first step on.
        layers: Which layers: `None` for all with a kernel; a name or regular expression, or several; or a
            function from a layer to bool. Layers inside of nested models and composite layers go by the
            names that `tfc.summary` shows.

    Returns:
        A functional model with the same names of inputs and outputs, not compiled.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model isn't built or can't be opened, if `layers` matches nothing, if a layer
            that is named has nothing to prune or is pruned already, or if a weight is NaN or infinite.

    Example:

    >>> import keras, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> pruned = tfc.prune(model, tfc.PolynomialDecay(0.0, 0.75, begin_step=0, end_step=300))
    >>> pruned.compile("sgd", "mse")  # and fit, as always
    """
    config = config if isinstance(config, PruneConfig) else PruneConfig(config)
    choice = LayerChoice(layers)
    check_built(model)
    group = None if config.scope == "layer" else uuid.uuid4().hex
    wrapped = []

    def wrap(layer: Layer) -> Layer:
        if not choice.includes(layer):
            return layer
        positions = kernel_positions(layer)
        if not positions and choice.names_it(layer):
            raise ValueError(
                f"Expected layers with a kernel. Received: {layer.name!r} of class "
                f"{type(layer).__name__}, which has nothing to prune. Leave it out of `layers`."
            )
        if not positions:
            return layer
        _check_prunable(layer, positions)
        wrapped.append(layer.name)
        return with_transforms(layer, [(position, Mask(config, group)) for position in positions])

    pruned = rebuild(model, wrap)
    choice.check()
    if not wrapped:
        raise ValueError(
            f"Expected a model with layers to prune. Received: {model.name!r}, "
            + ("in which none has a kernel." if layers is None else f"in which none of layers={layers!r} has a kernel.")
        )
    masks = [t for layer in wrapped_layers(pruned) for _, t in layer.transforms if isinstance(t, Mask)]
    members = [mask for mask in masks if mask.group is not None and mask.group == group]
    for mask in members:
        mask.group_size = len(members)
    return pruned


def _check_prunable(layer: Layer, positions: list[int]) -> None:
    if isinstance(layer, CompressedLayer) and any(isinstance(t, Mask) for _, t in layer.transforms):
        raise ValueError(
            f"Expected layers that aren't pruned yet. Received: {layer.name!r}, which has a mask. "
            "Name other layers with `layers`, or call tfcompress.strip first."
        )
    lora = next((part.name for part in layer._flatten_layers() if getattr(part, "lora_enabled", False)), None)
    if lora is not None:
        raise ValueError(
            f"Expected layers without LoRA, which would fill the zeros again. Received: {lora!r} with LoRA enabled. "
            "Merge it into the kernel first: save the model and load the weights into one without LoRA."
        )
    weights = inner_weights(layer)
    for position in positions:
        if not bool(np.all(np.isfinite(read(weights[position])))):
            raise ValueError(
                f"Expected finite weights. Received: {weights[position].path!r} of layer {layer.name!r}, which "
                "holds NaN or infinite values. Train or load the model anew."
            )


def prune_once(model: keras.Model, sparsity: float, data: Any = None, **config: Any) -> keras.Model:
    """Return a copy of a model whose least important weights are zero, without training.

    Args:
        model: A built Keras model of any kind; it is not changed.
        sparsity: Share of zeros, in [0, 1).
        data: For criteria that look at data; "magnitude" doesn't.
        **config: `layers`, as in `prune`, and the fields of `PruneConfig`, such as `scope="global"`.

    Returns:
        A functional model of plain layers, not compiled.

    Raises:
        TypeError: If `model` is no Keras model, or `config` holds an unknown name.
        ValueError: As `prune`.

    Example:

    >>> import keras, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> tfc.sparsity(tfc.prune_once(model, 0.75))
    0.75
    """
    if data is not None:
        raise ValueError(
            f"Expected data=None, since criterion={config.get('criterion', 'magnitude')!r} looks at weights alone. "
            f"Received: data of type {type(data).__name__}."
        )
    layers = config.pop("layers", None)
    pruned = prune(model, PruneConfig(ConstantSparsity(sparsity, frequency=1), **config), layers)
    update_masks(pruned)
    return strip(pruned)


def update_masks(model: keras.Model) -> None:
    """Do to the masks what one training step does, without training: count the step, follow the schedule."""
    wrappers = wrapped_layers(model)
    done: set[Any] = set()
    for wrapper in wrappers:
        wrapper.update(wrappers, done)
