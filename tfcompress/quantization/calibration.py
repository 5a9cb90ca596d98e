"""Finding the ranges of activations from data, in a stream: what is kept doesn't grow with the number of batches."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.quantization import ranges
from tfcompress.quantization.batches import batches
from tfcompress.quantization.histograms import BINS
from tfcompress.quantization.quantizers import ActivationQuantizer, activation_quantizers
from tfcompress.replicas import predict_on_batch
from tfcompress.surgery.deep import functional
from tfcompress.surgery.inputs import is_graph
from tfcompress.surgery.walking import Call, walk


def calibrate(model: keras.Model, data: Any, batch_size: int = 32) -> None:
    """Find the ranges of a quantized model's activations from data; what it had learned of them is forgotten.

    The data runs through the model with quantized weights and float activations; for each batch the extremes, and
    where the configuration asks for it a histogram, are computed on the device, and merged.

    Args:
        model: What `tfcompress.quantize` returned, maybe trained since; its ranges are changed in place.
        data: A few hundred samples like those that the model will see: an array, a dict or list of arrays for
            several inputs, or anything that yields batches (targets behind the inputs are left out).
        batch_size: Samples in a batch, where `data` holds arrays.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it has no ranges to find; if `data` is empty or doesn't fit; or if an activation is NaN,
            infinite or zero throughout: the message names the layer. The ranges stay as they were then.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> quantized = tfc.quantize(model, "int8")
    >>> tfc.calibrate(quantized, np.random.default_rng(0).normal(size=(64, 4)).astype("float32"))
    """
    quantizers = _to_calibrate(model)
    observer = _observer(model, quantizers)
    found = [ranges.make(quantizer.spec) for quantizer in quantizers]
    for batch in batches(model, data, batch_size):
        statistics = predict_on_batch(observer, batch)
        for quantizer, estimator, statistic in zip(quantizers, found, _per_quantizer(statistics), strict=True):
            low, high = float(statistic[0]), float(statistic[1])
            if not np.isfinite(low) or not np.isfinite(high):
                raise ValueError(
                    f"Expected finite activations. Received: {low} to {high} from {quantizer.source!r} on the "
                    "calibration data. Check the data, and the weights of that layer and of those before it."
                )
            estimator.update(low, high, np.asarray(statistic[2:]) if estimator.needs_histogram else None)
    made = [estimator.range() for estimator in found]
    for quantizer, (low, high) in zip(quantizers, made, strict=True):
        if not high > low:
            raise ValueError(
                f"Expected activations that vary. Received: nothing but zeros from {quantizer.source!r} on the "
                "calibration data, from which no range can be found. Train the model, or give other data."
            )
    for quantizer, (low, high) in zip(quantizers, made, strict=True):
        quantizer.set_range(low, high)


def _to_calibrate(model: Any) -> list[ActivationQuantizer]:
    if not isinstance(model, keras.Model):
        raise TypeError(f"Expected a keras.Model. Received: {model!r} of type {type(model).__name__}.")
    quantizers = [quantizer for quantizer in activation_quantizers(model) if quantizer.learns]
    if not quantizers or not is_graph(model):
        raise ValueError(
            "Expected a model with ranges of activations to find, as tfcompress.quantize(model, 'int8') returns. "
            f"Received: {model.name!r}, which has none."
        )
    return quantizers


def _per_quantizer(statistics: Any) -> list[np.ndarray]:
    return list(statistics) if isinstance(statistics, list | tuple) else [statistics]


def _observer(model: keras.Model, quantizers: list[ActivationQuantizer]) -> keras.Model:
    """Return a model of the extremes, and histograms, of what reaches each quantizer."""
    observed: dict[int, Any] = {}

    def visit(call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if isinstance(call.operation, ActivationQuantizer):
            if keywords.get("observe", True):
                observed[id(call.operation)] = arguments[0]
            return arguments[0]
        return call.operation(*arguments, **keywords)

    walked = walk(model, visit)
    outputs = []
    for quantizer in quantizers:
        bins = BINS if ranges.make(quantizer.spec).needs_histogram else 0
        outputs.append(_Statistics(bins)(observed[id(quantizer)]))
    return functional(walked.inputs, outputs)


class _Statistics(keras.layers.Layer):
    """The least and the largest value of a tensor, then a histogram between them."""

    def __init__(self, bins: int):
        super().__init__(dtype="float32")
        self.bins = bins

    def call(self, inputs: Any) -> Any:
        low, high = ops.min(inputs), ops.max(inputs)
        extremes = ops.stack([low, high])
        if not self.bins:
            return extremes
        # Values that aren't finite are found by the extremes; here they must only not fail.
        width = ops.maximum(high - low, 1e-30)
        places = ops.clip(ops.floor((inputs - low) / width * self.bins), 0, self.bins - 1)
        places = ops.reshape(ops.cast(ops.where(ops.isfinite(places), places, 0.0), "int32"), (-1,))
        # JAX's bincount has no fixed size; int32, for float32 counts to 2^24 only.
        counts = ops.segment_sum(ops.ones_like(places), places, num_segments=self.bins)
        return ops.concatenate([extremes, ops.cast(counts, "float32")])

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor((2 + self.bins,), "float32")
