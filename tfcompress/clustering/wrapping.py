"""Codebooks on the kernels of layers and models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.layers import Layer

from tfcompress.core.passthrough import PassThrough
from tfcompress.core.sharding import lent
from tfcompress.core.transform import WeightTransform, look, put
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import inner_weights, with_transforms, without_marks
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.naming import keep_output_names
from tfcompress.graph.rewrite import Call, rewritten
from tfcompress.pruning.fixed_masks import fixed_mask
from tfcompress.pruning.kernel_pruning import check_weights
from tfcompress.pruning.mask import Mask
from tfcompress.quantization.weights.codebook import Codebook
from tfcompress.quantization.weights.left_dense import LeftDense
from tfcompress.quantization.weights.quantizer import weight_quantizer
from tfcompress.quantization.weights.uniform import WeightQuantizer

Tables = Callable[[np.ndarray], np.ndarray]
"""From a kernel's weights, a row for each table, to what `Codebook.start` takes."""

Codebooks = Mapping[int, tuple[Codebook, Tables] | LeftDense]
"""Of a layer's kernels, by their positions."""


def with_codebooks(
    flat: FlatGraph, chosen: Callable[[Layer], Codebooks], *, keep_zeros: Callable[[Layer], bool]
) -> keras.Model:
    """Return a functional model of a graph, whose layers are used in it, with codebooks on kernels.

    Args:
        flat: The graph.
        chosen: The codebooks of a layer; empty: it is left alone.
        keep_zeros: Whether zeros of a layer's kernels stay zeros.
    """
    made: dict[int, Any] = {}

    def one(operation: Any) -> Any:
        codebooks = chosen(operation) if isinstance(operation, Layer) else {}
        return around(operation, codebooks, keep_zeros=keep_zeros(operation)) if codebooks else operation

    def visit(call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        operation = call.operation
        if id(operation) not in made:
            made[id(operation)] = one(operation)
        return made[id(operation)](*arguments, **keywords)

    return keep_output_names(rewritten(flat, visit), flat.output_names).model()


def around(layer: Layer, codebooks: Codebooks, *, keep_zeros: bool) -> Layer:
    """Return a built layer in a wrapper with codebooks on its kernels, their tables at their start.

    Args:
        layer: A built layer, or a wrapper of this package around one, whose transforms stay.
        codebooks: Of its kernels, or why they have none.
        keep_zeros: Whether zeros of these stay zeros, where they have no mask.

    Raises:
        ValueError: If it has codebooks already, or weights that can't have any.
    """
    if isinstance(layer, PassThrough) and layer.temporary:
        outer = layer.rewrap(around(layer.layer, codebooks, keep_zeros=keep_zeros))
        outer.build()
        return outer
    if isinstance(layer, CompressedLayer) and any(isinstance(t, Codebook) for _, t in layer.transforms):
        raise ValueError(
            f"Expected layers that aren't clustered yet. Received: {layer.name!r}, which is. Name other layers with "
            "`layers`, or call tfcompress.strip first."
        )
    check_weights(layer, list(codebooks))
    masks = _masks(layer, codebooks) if keep_zeros else {}
    made = {at: one if isinstance(one, LeftDense) else one[0] for at, one in codebooks.items()}
    instead = _instead(layer, made)
    added = [(at, one) for at, one in made.items() if one not in instead.values()]
    wrapper = with_transforms(layer, [*masks.items(), *added], instead=instead)
    for at, mask in masks.items():
        put(mask.mask, look(inner_weights(layer)[at]) != 0)
    for at, entry in codebooks.items():
        if not isinstance(entry, LeftDense):
            codebook, tables = entry
            codebook.start(tables(codebook.rows(np.asarray(reaching(layer, at), np.float32))))
    for one in instead.values():
        if isinstance(one, WeightQuantizer):
            one.fit(wrapper.value_before(one))
    return wrapper


def reaching(layer: Layer, position: int) -> np.ndarray:
    """Return what of a kernel reaches a codebook that comes behind the other transforms, to be looked at alone."""
    layer = without_marks(layer)
    weight = inner_weights(layer)[position]
    chain = [one for one in layer.chain(position) if not one.last] if isinstance(layer, CompressedLayer) else []
    if not chain:
        return look(weight)
    value = ops.convert_to_tensor(weight.value)
    for transform in chain:
        value = transform.apply(value)
    return lent(value)


def _instead(layer: Layer, made: Mapping[int, WeightTransform]) -> dict[WeightTransform, WeightTransform]:
    """Return what stands in the place of transforms of kernels that get codebooks.

    Of what says why they had none the codebooks; of quantizers those with the scales that they have behind these.
    """
    found: dict[WeightTransform, WeightTransform] = {}
    for at, one in layer.transforms if isinstance(layer, CompressedLayer) else ():
        new = made.get(at)
        if isinstance(one, LeftDense) and new is not None:
            found[one] = new
        elif isinstance(one, WeightQuantizer) and isinstance(new, Codebook) and one.scale_axes is not None:
            quantizer = weight_quantizer(layer, at, one.spec, one.activations, codebook=new)
            if quantizer.scale_axes != one.scale_axes:
                found[one] = quantizer
    return found


def _masks(layer: Layer, positions: Iterable[int]) -> dict[int, Mask]:
    """Return masks for the zeros of kernels that have some, but no mask yet."""
    has = {at for at, t in layer.transforms if isinstance(t, Mask)} if isinstance(layer, CompressedLayer) else set()
    found = {}
    for position in positions:
        kept = look(inner_weights(layer)[position]) != 0
        if position not in has and kept.any() and not kept.all():
            found[position] = fixed_mask(kept)
    return found
