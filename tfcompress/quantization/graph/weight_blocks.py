"""Which kernels can have a scale for each block of inputs, and what is said of the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from keras.layers import Layer

from tfcompress.core.error_messages import user_level
from tfcompress.core.passthrough import innermost
from tfcompress.graph import kernel_positions
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.layers.kernel_layouts import owner_of
from tfcompress.quantization.graph.layer_precisions import LayerPrecisions
from tfcompress.quantization.quantize_config import LEAST_BLOCK, MOST_BITS_IN_BLOCKS, WeightSpec
from tfcompress.quantization.weights.blocks import blocks_of, summed_axes
from tfcompress.quantization.weights.quantizer import weight_quantizer

MOST_NAMED = 8


def check_blocks(lowered: FlatGraph, precisions: LayerPrecisions, includes: Callable[[Any], bool]) -> None:
    """Refuse a config whose blocks fit no layer; warn of layers that get a scale for each channel instead.

    Also of blocks that no `.tflite` file can have: at once, and not when one is wanted.

    Args:
        lowered: The graph whose kernels are quantized.
        precisions: How they are.
        includes: Which layers are quantized.

    Raises:
        ValueError: There is such a config; the layers that it is for are named, and why they can't be in blocks.
    """
    fitting: dict[WeightSpec, None] = {}
    others: dict[int, dict[str, str]] = {}
    for layer in lowered.layers:
        config = precisions.of(layer)
        if config.float16 or config.weights.block is None or not includes(layer):
            continue
        for position in kernel_positions(layer):
            if weight_quantizer(layer, position, config.weights, config.activations).blocks is not None:
                fitting[config.weights] = None
            else:
                others.setdefault(config.weights.block, {})[layer.name] = _why(layer, position, config.weights.block)
    for block, found in others.items():
        said = [f"{name!r} ({why})" for name, why in found.items()]
        listed = f"{', '.join(said[:MOST_NAMED])}{' ...' if said[MOST_NAMED:] else ''}"
        if all(spec.block != block for spec in fitting):
            raise ValueError(
                f"Expected a dense layer whose inputs blocks of {block} divide. Received: {listed}. Take "
                "granularity='per_channel' (the recipe 'int4_weights'), or blocks of another size."
            )
        warnings.warn(
            f"Weights get a scale for each channel or table, and not for each block of {block} inputs, in {listed}: "
            "blocks are of dense layers whose inputs they divide, and whose values aren't shared.",
            stacklevel=user_level(),
        )
    for spec in [spec for spec in fitting if not spec.blocks_in_tflite]:
        warnings.warn(
            f"LiteRT has no kernel for weights of {spec.bits} bits in blocks of {spec.block}: the model can be trained "
            f"so, and exported to .onnx. For .tflite files take at most {MOST_BITS_IN_BLOCKS} bits, and blocks of "
            f"{LEAST_BLOCK} inputs or more.",
            stacklevel=user_level(),
        )


def _why(layer: Layer, position: int, block: int) -> str:
    if blocks_of(layer, position, block) is not None:
        return "clustered"
    owner = owner_of(layer, position)
    summed = summed_axes(layer, position)
    if summed is None:
        return type(owner).__name__
    shape = innermost(layer).weights[position].shape
    return f"{' x '.join(str(shape[axis]) for axis in summed)} inputs"
