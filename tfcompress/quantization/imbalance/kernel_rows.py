"""Rows of a kernel of very different size, as they are where the channels that they read are."""

from __future__ import annotations

import numpy as np

from tfcompress.core.passthrough import innermost
from tfcompress.graph.rewrite import Call
from tfcompress.layers.channel_axes import channels_of
from tfcompress.layers.kernel_layouts import channel_axes
from tfcompress.quantization.graph.batch_norm_folding import seen
from tfcompress.quantization.imbalance.precision_left import FEW, Spread
from tfcompress.quantization.numerics.arrays import dequantize, uniform_quantize
from tfcompress.quantization.quantize_config import WeightSpec
from tfcompress.quantization.ranges.weight_limits import weight_limit


def lost_in_rows(call: Call, spread: Spread, spec: WeightSpec) -> np.ndarray:
    """Return which channels a kernel reads with weights that the scale of other, larger ones rounds away.

    Args:
        call: Of a layer with a kernel.
        spread: What there is in each channel of its input.
        spec: How kernels are quantized.
    """
    count = len(spread.deviation)
    none = np.zeros(count, bool)
    known = channels_of(call.operation)
    if known is None or known.inputs is None or known.input_count != count or known.inputs != known.outputs:
        return none
    kernel = seen(call.operation, known.inputs).astype(np.float32)
    if not np.isfinite(kernel).all() or not kernel.any():
        return none
    inner = innermost(call.operation)
    position = next(at for at, weight in enumerate(inner.weights) if weight is getattr(inner, known.inputs))
    axes = channel_axes(inner, position) if spec.granularity != "per_tensor" else None
    limit = weight_limit(kernel, axes, spec.bits, spec.range)
    q, scale, zero = uniform_quantize(
        kernel, spec.bits, symmetric=True, narrow=True, axis=axes, minimum=-limit, maximum=limit
    )
    error = dequantize(q, scale, zero, axis=axes) - kernel
    steps = 2 ** (spec.bits - 1) - 1
    rows = np.broadcast_to(known.input_index, kernel.shape)

    def power(values: np.ndarray) -> np.ndarray:
        return np.bincount(rows.ravel(), np.square(values * spread.deviation[rows], dtype=np.float64).ravel(), count)

    noise, signal = power(error), power(kernel)
    # Rows of one size lose about one part in `steps`, however few bits there are.
    most = max(1 / FEW, 4 / steps) ** 2
    lost = (noise > most * signal) & (signal > 0)
    return lost if noise[lost].sum() > most * signal.sum() else none
