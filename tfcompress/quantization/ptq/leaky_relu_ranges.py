"""Ranges behind a leaky ReLU, chosen so that the kernels of integers compute what the model does.

XNNPACK, which runs TFLite files where it can, multiplies integers by whole 256ths: by `input scale / output scale`
where they are positive, and by that times the slope where they are negative. LiteRT's own kernels round products twice.
So some of the values are off by one integer; how many depends on the quotient of the scales, and a slightly wider range
changes that.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from tfcompress.core.passthrough import innermost
from tfcompress.graph.index import index_of
from tfcompress.graph.rewrite import Call
from tfcompress.layers.names import name_of
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.quantization.numerics.nudging import nudge

PARTS = 256
"""Of one, in which XNNPACK multiplies."""

WIDEST, LOST = 1.04, 0.25
"""By how much a range may become wider; how many of the integers may be off for what it costs to be twice as wide."""


def align(model: keras.Model, quantizers: Collection[ActivationQuantizer]) -> None:
    """Widen the ranges behind the leaky ReLUs of a calibrated model, in place.

    Args:
        model: Quantized, with ranges of 8 bits; others stay.
        quantizers: Those whose ranges are to be set.
    """
    graph = index_of(model)
    for call in graph:
        quantizer, leaky = call.operation, graph.producer(call.inputs[0]) if call.inputs else None
        slope = None if leaky is None else slope_of(leaky)
        if slope is None or leaky is None or quantizer not in quantizers or quantizer.spec.bits != 8:
            continue
        before = graph.producer(leaky.inputs[0])
        source = None if before is None else before.operation
        if isinstance(source, ActivationQuantizer) and source.calibrated and not source.spec.dynamic:
            quantizer.set_range(*aligned(quantizer.range, source.range, slope, quantizer.spec.symmetric))


def slope_of(call: Call) -> float | None:
    """Return the slope below zero of a leaky ReLU; `None` for another call."""
    if isinstance(call.operation, ActivationQuantizer) or name_of(call.operation) != "leakyrelu":
        return None
    inner: Any = innermost(call.operation)
    default = inspect.signature(keras.activations.leaky_relu).parameters["negative_slope"].default
    return float(getattr(inner, "negative_slope", default))


def aligned(
    ends: tuple[float, float], given: tuple[float, float], slope: float, symmetric: bool = False
) -> tuple[float, float]:
    """Return the range, `ends` or slightly wider, in which the least integers of 8 bits are off behind a leaky ReLU.

    Args:
        ends: Least and largest value to be held.
        given: The range of what goes in.
        slope: Below zero.
        symmetric: Whether zero is the middle of the ranges.

    >>> low, high = aligned((-0.3, 1.0), (-1.0, 1.0), 0.3)
    >>> factor = 256 * (2 / 255) / ((high - low) / 255)
    >>> round(factor, 3), round(0.3 * factor, 3)
    (390.0, 117.0)
    """
    low, high = ends
    steps = 255 - symmetric
    least = (2 * max(-low, high) if symmetric else high - low) / steps
    begin, end, scale, _ = map(float, nudge(*given, narrow=symmetric))
    if not least > 0 or not scale > 0:
        return ends
    values = np.arange(round(begin / scale), round(end / scale) + 1)
    found: list[tuple[float, int, tuple[float, float]]] = []
    most = math.floor(PARTS * scale / least)
    for factor in range(most, math.ceil(most / WIDEST) - 1, -1):
        wider = PARTS * scale / max(factor, 1)
        under, above = (127, 127) if symmetric else (math.ceil(end / wider - 1e-3) for end in (-low, high))
        spare = steps - under - above
        if factor > 0 and spare >= 0:
            zero = under + (spare // 2 if under and above else spare if under else 0)
            off = share_off(values, factor / PARTS, slope) + LOST * (most / factor - 1)
            found.append((round(off, 4), -factor, (-zero * wider, (steps - zero) * wider)))
    return min(found)[2] if found else ends


def share_off(values: np.ndarray, factor: float, slope: float) -> float:
    """Return how many integers are off, of some, in both of TFLite's kernels together.

    Args:
        values: Of the input, zero at 0.
        factor: Input scale / output scale.
        slope: Below zero.

    >>> round(share_off(np.arange(-128, 128), 1.6544, 0.3), 3) > 0.2 > share_off(np.arange(-128, 128), 1.6, 0.3)
    True
    """
    factors = np.where(values < 0, factor * slope, factor)
    wanted = np.rint(values * factors)
    whole = np.floor((values * np.rint(PARTS * factors) + PARTS // 2) / PARTS)
    mantissa, exponent = np.frexp(factors)
    first = np.floor(values * np.exp2(np.maximum(exponent, 0)) * mantissa + 0.5)
    second = first * np.exp2(np.minimum(exponent, 0))
    twice = np.sign(second) * np.floor(np.abs(second) + 0.5)
    return float(np.mean(whole != wanted) + np.mean(twice != wanted))
