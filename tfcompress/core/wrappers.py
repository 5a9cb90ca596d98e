"""Wrappers of a model: made, opened, and the remarks of their transforms."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import keras

from tfcompress.core.error_messages import user_level
from tfcompress.core.passthrough import PassThrough
from tfcompress.core.transform import WeightTransform, read, remove_projection
from tfcompress.core.wrapper import CompressedLayer, wrapped_layers


def remarks(model: keras.layers.Layer) -> list[str]:
    """Return the remarks of a model's transforms: a sentence for each thing that a user should know of its weights."""
    found: dict[type[WeightTransform], list[tuple[str, WeightTransform, int]]] = {}
    for layer in wrapped_layers(model):
        steps = int(read(layer.step))
        for _, transform in layer.transforms:
            found.setdefault(type(transform), []).append((layer.name, transform, steps))
    return [text for kind, members in found.items() for text in kind.remarks(members)]


def warn_of_remarks(model: keras.layers.Layer) -> tuple[str, ...]:
    """Warn of what `remarks` returns, and return it."""
    said = tuple(remarks(model))
    for text in said:
        warnings.warn(text, stacklevel=user_level())
    return said


def inner_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Return the weights of a layer, or of the layer that a wrapper of this package carries."""
    layer = without_marks(layer)
    return list(layer.layer.weights if isinstance(layer, CompressedLayer) else layer.weights)


def without_marks(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return a layer without the wrappers around it that stripping drops, as those of layers that are kept float."""
    while isinstance(layer, PassThrough) and layer.temporary:
        layer = layer.layer
    return layer


def with_transforms(
    layer: keras.layers.Layer,
    transforms: Sequence[tuple[int, WeightTransform]],
    wrapper_class: type[CompressedLayer] | None = None,
    instead: Mapping[WeightTransform, WeightTransform] | None = None,
) -> CompressedLayer:
    """Return a built wrapper that applies `transforms` to the weights of a built layer.

    Args:
        layer: A built layer; or a wrapper, whose transforms keep their state. They come before the new ones, but for
            those that are the last of a weight.
        transforms: Pairs of the position of a weight in `inner_weights(layer)` and its transform.
        wrapper_class: Of the wrapper; by default that of `layer` if it is a wrapper, else `CompressedLayer`.
        instead: What stands in the place of a transform of `layer`, with a state of its own.
    """
    made = wrapper_class or (type(layer) if isinstance(layer, CompressedLayer) else CompressedLayer)
    if isinstance(layer, CompressedLayer):
        for weight in layer.layer.weights:
            remove_projection(weight)
        fresh = layer.constructor_arguments()["transforms"]
        old, instead = layer.transforms, instead or {}
        before = [(at, instead.get(was, new)) for (at, new), (_, was) in zip(fresh, old, strict=True)]
        chain = sorted([*before, *transforms], key=lambda entry: entry[1].last)
        wrapper = made(layer.layer, chain, name=layer.name)
    else:
        wrapper = made(layer, transforms)
    wrapper.build()
    if isinstance(layer, CompressedLayer):
        wrapper.take_state(layer)
    return wrapper
