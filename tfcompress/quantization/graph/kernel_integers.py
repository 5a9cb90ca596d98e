"""The integers of a kernel as the current weights make them: those that a file has, with what is folded into it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from keras import ops

from tfcompress.core.wrapper import CompressedLayer
from tfcompress.layers.channel_axes import channels_of
from tfcompress.layers.einsum_equations import matrix_form
from tfcompress.layers.kernel_layouts import channel_axes
from tfcompress.layers.names import name_of
from tfcompress.quantization.encoding.bias import bias_scale
from tfcompress.quantization.graph.surroundings import Surroundings, as_one_map
from tfcompress.quantization.numerics.tensorflow_kernels import at_hand
from tfcompress.quantization.numerics.wide import WIDE
from tfcompress.quantization.weights.uniform import WeightQuantizer

Tensor = Any


@dataclasses.dataclass(frozen=True)
class KernelIntegers:
    """What a kernel's sums of products are made of, whatever the ranges around it are.

    Attributes:
        place: Of the kernel in `layer.weights`.
        most: What the sum of a channel's magnitudes can be at most, for weights of these bits.
        weights: Whole numbers, float32; where what is folded has a negative factor they are negative.
        own_scale: Of the kernel by itself, with that sign: a scalar, or one for each output channel.
        scale: Of the kernel with what is folded into it, float32.
        bias: With what is folded, float32, one for each output channel.
        factor: Of what is folded, float64.
        offset: Of what is folded.
        largest: The largest sum of a channel's magnitudes.
        empty: Of which channels all weights are 0.
    """

    place: int
    most: float
    weights: Tensor
    own_scale: Tensor
    scale: Tensor
    bias: Tensor
    factor: Tensor
    offset: Tensor
    largest: Tensor
    empty: Tensor

    def bias_units(self, input_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bias as whole numbers, float64, and the scale of the weights, which a large one makes coarser.

        Args:
            input_scale: float32.
        """
        scale = bias_scale(ops, self.bias, input_scale, self.scale, self.empty)
        unit = ops.cast(input_scale * scale, WIDE)
        return ops.round(ops.cast(self.bias, WIDE) / unit), scale


def kernel_integers(layer: CompressedLayer, around: Surroundings) -> KernelIntegers | None:
    """Return the integers of a wrapped kernel; `None` where they, or what is folded, aren't known.

    Args:
        layer: The wrapper.
        around: What surrounds it.
    """
    chosen = [(at, t) for at, t in layer.transforms if isinstance(t, WeightQuantizer)]
    folded = as_one_map(around.affine)
    if len(chosen) != 1 or folded is None:
        return None
    ((place, transform),) = chosen
    if transform.spec.block is not None:  # which is for float activations alone
        return None
    raw = at_hand(ops.cast(layer.value_before(transform), "float32"))
    scale = ops.convert_to_tensor(transform.scale(raw))
    scale = ops.where(scale > 0, scale, 1.0)
    weights = ops.cast(layer.transformed()[place], "float32")
    rank, axes = len(weights.shape), transform.axis or ()
    whole = weights / ops.reshape(scale, [weights.shape[at] if at in axes else 1 for at in range(rank)])
    whole = whole + ops.stop_gradient(ops.round(whole) - whole)
    by_channel = _by_channel(layer.layer, transform, scale)
    if by_channel is None:
        return None
    factor, offset = folded
    bias = getattr(layer.layer, "bias", None)
    total = ops.zeros(()) if bias is None else ops.cast(bias.value, "float32")
    if around.affine:
        channels = channels_of(layer.layer)
        if channels is None:
            return None
        factor, offset = (part + ops.zeros((channels.output_count,), WIDE) for part in (factor, offset))
        sign = ops.cast(ops.sign(factor), "float32")
        whole = whole * ops.take(sign, channels.output_index)
        size = ops.where(factor == 0, ops.ones_like(factor), ops.abs(factor))
        folded_scale = ops.cast(ops.cast(by_channel, WIDE) * size, "float32")
        total = ops.cast(ops.cast(total, WIDE) * factor + offset, "float32")
    else:
        sign, folded_scale = ops.ones(()), by_channel
    made = channel_axes(layer, place)
    summed = [at for at in range(rank) if at not in made]
    sums = ops.sum(ops.abs(ops.stop_gradient(whole)), axis=summed)
    most = math.prod(weights.shape[at] for at in summed) * 2.0 ** (transform.spec.bits - 1)
    empty = ops.reshape(sums, (-1,)) == 0 if len(folded_scale.shape) == 1 else ops.all(sums == 0)
    if len(folded_scale.shape) > 1:
        empty = ops.reshape(sums == 0, folded_scale.shape)
    total = total + ops.zeros_like(folded_scale)
    parts = (sign * by_channel, folded_scale, total, factor, offset, ops.max(sums), empty)
    return KernelIntegers(place, most, whole, *map(ops.stop_gradient, parts))


def _by_channel(layer: Any, transform: WeightQuantizer, scale: Tensor) -> Tensor | None:
    """Return the scales of a weight as they broadcast with the layer's output; `None` if they don't."""
    if name_of(layer) == "einsumdense":
        form = matrix_form(layer)
        made = form.kernel_axes[form.summed :] if form else ()
        plain = form is not None and form.output_axes == tuple(range(len(form.output_axes)))
        return scale if plain and tuple(made) == tuple(sorted(made)) else None
    return scale if transform.axis is None else ops.reshape(scale, (-1,))
