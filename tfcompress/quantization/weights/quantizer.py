"""The quantizer of a kernel: of which kind it is, and along which axes its scales differ."""

from __future__ import annotations

from typing import Any

from tfcompress.core.wrappers import inner_weights
from tfcompress.layers.kernel_layouts import channel_axes
from tfcompress.quantization.quantize_config import ActivationSpec, WeightSpec
from tfcompress.quantization.weights.blocks import blocks_of
from tfcompress.quantization.weights.codebook import Codebook, codebook_of
from tfcompress.quantization.weights.few_values import FewValues
from tfcompress.quantization.weights.learned_step import LearnedStep
from tfcompress.quantization.weights.uniform import WeightQuantizer

QUANTIZERS: dict[str, type[WeightQuantizer]] = {"learned": LearnedStep, "binary": FewValues, "ternary": FewValues}
"""By `WeightSpec.range`; of others the grid is found from the weight in every call."""


def weight_quantizer(
    layer: Any,
    position: int,
    spec: WeightSpec,
    activations: ActivationSpec | None,
    *,
    per_channel: bool = True,
    codebook: Codebook | None = None,
) -> WeightQuantizer:
    """Return a quantizer for a kernel, without its state.

    A kernel whose weights share the values of a table has one scale, so that they share integers in files, too: what
    is quantized is the table. Channels have scales of their own all the same where each has a table of its own, or
    where the table has no fewer values than the grid has integers.

    Args:
        layer: A built layer, or a wrapper of this package around one.
        position: Of the kernel in the innermost layer's `weights`.
        spec: How it is quantized.
        activations: How activations are meant to be; `None`: they aren't.
        per_channel: Whether channels have scales of their own; or blocks, where they are asked for and fit.
        codebook: The kernel's; by default the one in the wrapper.
    """
    kind = QUANTIZERS.get(spec.range, WeightQuantizer)
    one_scale = kind(spec, None, activations)
    if not per_channel:
        return one_scale
    axes, shape = channel_axes(layer, position), inner_weights(layer)[position].shape
    codebook = codebook or codebook_of(layer, position)
    if codebook is None or codebook.count > one_scale.ends[1] - one_scale.ends[0]:
        blocks = blocks_of(layer, position, spec.block)
        return kind(spec, axes if blocks is None else None, activations, blocks)
    own_tables = codebook.axis is not None and codebook.tables == shape[codebook.axis]
    if not own_tables or any(shape[axis] > 1 and axis != codebook.axis for axis in axes):
        return one_scale
    return kind(spec, axes, activations)
