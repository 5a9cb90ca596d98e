"""Codebooks on the kernels of layers and models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras.layers import Layer

from tfcompress.core.passthrough import PassThrough
from tfcompress.core.sharding import gathered
from tfcompress.core.transform import WeightTransform, put, read
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import inner_weights, with_transforms
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.naming import keep_output_names
from tfcompress.graph.rewrite import Call, rewritten
from tfcompress.pruning.fixed_masks import fixed_mask
from tfcompress.pruning.kernel_pruning import check_weights
from tfcompress.pruning.mask import Mask
from tfcompress.quantization.weights.codebook import Codebook
from tfcompress.quantization.weights.quantizer import weight_quantizer
from tfcompress.quantization.weights.uniform import WeightQuantizer

Tables = Callable[[np.ndarray], np.ndarray]
"""From a kernel's weights, a row for each table, to what `Codebook.start` takes."""

Codebooks = Mapping[int, tuple[Codebook, Tables]]
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
        codebooks: Of its kernels.
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
    chain = [*((at, mask) for at, (mask, _) in masks.items()), *((at, one) for at, (one, _) in codebooks.items())]
    quantizers = _quantizers(layer, codebooks)
    wrapper = with_transforms(layer, chain, instead=quantizers)
    for mask, kept in masks.values():
        put(mask.mask, kept)
    for codebook, tables in codebooks.values():
        value = np.asarray(gathered(wrapper.value_before(codebook)), np.float32)
        codebook.start(tables(np.asarray(codebook.unfold(value))))
    for quantizer in quantizers.values():
        quantizer.fit(wrapper.value_before(quantizer))
    return wrapper


def _quantizers(layer: Layer, codebooks: Codebooks) -> dict[WeightTransform, WeightQuantizer]:
    """Return, for quantizers of kernels that get codebooks, those with the scales that they have behind these."""
    found: dict[WeightTransform, WeightQuantizer] = {}
    for at, one in layer.transforms if isinstance(layer, CompressedLayer) else ():
        if isinstance(one, WeightQuantizer) and at in codebooks and one.scale_axes is not None:
            made = weight_quantizer(layer, at, one.spec, one.activations, codebook=codebooks[at][0])
            if made.scale_axes != one.scale_axes:
                found[one] = made
    return found


def _masks(layer: Layer, codebooks: Codebooks) -> dict[int, tuple[Mask, np.ndarray]]:
    """Return masks for the zeros of kernels that have some, but no mask yet, each with what it keeps."""
    has = {at for at, t in layer.transforms if isinstance(t, Mask)} if isinstance(layer, CompressedLayer) else set()
    found = {}
    for position in codebooks:
        kept = read(inner_weights(layer)[position]) != 0
        if position not in has and kept.any() and not kept.all():
            found[position] = (fixed_mask(kept), kept)
    return found
