"""Finding the ranges of activations from data, in a stream: what is kept doesn't grow with the number of batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.checks import check_model
from tfcompress.quantization import ranges
from tfcompress.quantization.batches import batches
from tfcompress.quantization.histograms import LEAST_EXPONENT, MOST_EXPONENT, SIDE
from tfcompress.quantization.quantizers import ActivationQuantizer, activation_quantizers
from tfcompress.quantization.seen import Seen
from tfcompress.replicas import predict_on_batch
from tfcompress.surgery.inputs import graph_of, is_graph
from tfcompress.transform import put, read

_EXPONENTS = range(LEAST_EXPONENT, MOST_EXPONENT + 1)
_POWERS = np.ldexp(1.0, _EXPONENTS[:-1]).astype("float32")
_WIDEST = float(np.finfo("float32").max)
_WIDTHS = np.ldexp(1.0 / SIDE, _EXPONENTS).astype("float32")


def calibrate(model: keras.Model, data: Any, batch_size: int = 32) -> None:
    """Find the ranges of a quantized model's activations from data; what it had learned of them is forgotten.

    The data runs through the model with quantized weights and float activations; for each batch the extremes, and
    where the configuration asks for it a histogram, are computed on the device, and merged. One set of data gives one
    range, however it is cut into batches and ordered, except with `range="ema"`. An activation that is 0 throughout
    gets the range 0 to 1, and a warning names it.

    Args:
        model: What `tfcompress.quantize` returned, maybe trained since; its ranges are changed in place.
        data: A few hundred samples like those that the model will see: an array, a dict or list of arrays for
            several inputs, or anything that yields batches (targets behind the inputs are left out).
        batch_size: Samples in a batch, where `data` holds arrays.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it has no ranges to find; if `data` is empty or doesn't fit; or if an activation is NaN or
            infinite: the message names the layer. The ranges stay as they were then.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> quantized = tfc.quantize(model, "int8")
    >>> tfc.calibrate(quantized, np.random.default_rng(0).normal(size=(64, 4)).astype("float32"))
    """
    quantizers = _to_calibrate(model)
    before = [read(quantizer.counts) for quantizer in quantizers]
    try:
        for quantizer in quantizers:
            quantizer.counts.assign(ops.zeros((2,), "int32"))  # nothing follows from the old range
        seen = Seen(model)
        found = _found(model, quantizers, map(seen.add, batches(model, data, batch_size)))
    finally:
        for quantizer, counts in zip(quantizers, before, strict=True):
            put(quantizer.counts, counts)
    for quantizer in quantizers:
        quantizer.see(None)
    quantizers[0].see(seen.found())
    dead = [quantizer.source for quantizer, (low, high) in zip(quantizers, found, strict=True) if not high > low]
    if dead:
        warnings.warn(
            f"Expected activations that vary. Received: nothing but zeros from {', '.join(map(repr, dead))} on the "
            "calibration data. What is quantized there has the range 0 to 1 now: train the model, or give other data, "
            "if these layers are meant to be alive.",
            stacklevel=2,
        )
    for quantizer, (low, high) in zip(quantizers, found, strict=True):
        quantizer.set_range(*((low, high) if high > low else (-1.0 if quantizer.spec.symmetric else 0.0, 1.0)))


def _to_calibrate(model: Any) -> list[ActivationQuantizer]:
    check_model(model)
    quantizers = [quantizer for quantizer in activation_quantizers(model) if quantizer.learns]
    if not quantizers or not is_graph(model):
        raise ValueError(
            "Expected a model with ranges of activations to find, as tfcompress.quantize(model, 'int8') returns. "
            f"Received: {model.name!r}, which has none."
        )
    return quantizers


def _found(
    model: keras.Model, quantizers: list[ActivationQuantizer], batches: Iterable[list[Any]]
) -> list[tuple[float, float]]:
    observer = _Observer(model, quantizers)
    found = [ranges.make(quantizer.spec) for quantizer in quantizers]
    for batch in batches:
        statistics = predict_on_batch(observer, batch)
        for quantizer, estimator, (extremes, *counts) in zip(quantizers, found, statistics, strict=True):
            low, high = map(float, extremes)
            if not high - low <= _WIDEST:
                raise ValueError(
                    f"Expected finite activations. Received: {low:.6g} to {high:.6g} from {quantizer.source!r} on the "
                    "calibration data, which no float32 range holds. Check the data, and the weights of that layer and "
                    "of those before it."
                )
            estimator.update(low, high, *counts)
    return [estimator.range() for estimator in found]


class _Observer(keras.Model):
    """Gives, for each quantizer of a model, the extremes of what reaches it and, where it is asked for, a histogram.

    It runs through the model's own graph and adds nothing to it: what a call leaves in the layers would stay.
    """

    def __init__(self, model: keras.Model, quantizers: list[ActivationQuantizer]):
        super().__init__(name="observer")
        self.model = model
        self.kinds = {quantizer.name: ranges.make(quantizer.spec).needs_histogram for quantizer in quantizers}

    def call(self, inputs: Any) -> Any:
        graph = graph_of(self.model)
        found: dict[str, list[Any]] = {}

        def operation_fn(operation: Any) -> Any:
            if not isinstance(operation, ActivationQuantizer):
                return operation

            def observe(x: Any, observe: bool = True) -> Any:
                if observe and operation.name in self.kinds:
                    found[operation.name] = _statistics(ops.cast(x, "float32"), self.kinds[operation.name])
                return x

            return observe

        flat = [
            ops.cast(x, declared.dtype) for x, declared in zip(keras.tree.flatten(inputs), graph.inputs, strict=True)
        ]
        graph._run_through_graph(flat, operation_fn=operation_fn)
        return [found[name] for name in self.kinds]


def _statistics(x: Any, histogram: bool) -> list[Any]:
    """Return the least and the largest value and, if asked for, what `histograms.counted` counts."""
    low, high = ops.min(x), ops.max(x)
    extremes = ops.stack([low, high])
    if not histogram:
        return [extremes]
    place = ops.sum(ops.cast(ops.maximum(-low, high) >= _POWERS, "int32"))
    bins = ops.clip(ops.floor(x / ops.take(_WIDTHS, place)) + SIDE, 0, 2 * SIDE - 1)
    # Values that aren't finite are found by the extremes; here they must only not fail.
    bins = ops.reshape(ops.cast(ops.where(ops.isfinite(bins), bins, 0.0), "int32"), (-1,))
    # JAX's bincount has no fixed size.
    return [extremes, ops.segment_sum(ops.ones_like(bins), bins, num_segments=2 * SIDE)]
