"""Finding the ranges of activations from data, in a stream: what is kept doesn't grow with the number of batches."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.arguments import check_model
from tfcompress.core.error_messages import user_level
from tfcompress.core.keras_private import run_through_graph
from tfcompress.core.old_calls import accepts_old_calls
from tfcompress.core.out_of_memory import says_memory
from tfcompress.core.replicas import predict_on_batch
from tfcompress.core.transform import put, read
from tfcompress.core.wrapper import materialized, wrapped_layers
from tfcompress.data.model_batches import again, batches, check_batch_size, last_is_smaller
from tfcompress.graph.flat_graph import caller
from tfcompress.graph.index import index_of
from tfcompress.graph.inputs.symbolic import graph_of, is_graph
from tfcompress.graph.keras_quantized import check_floats
from tfcompress.graph.stateful_layers import beginning
from tfcompress.graph.time_distributed import steps_at_once
from tfcompress.quantization.graph.activation_quantizer import LEAST, ActivationQuantizer, activation_quantizers
from tfcompress.quantization.graph.grids_at_hand import ranges_unknown
from tfcompress.quantization.graph.quantizer_sources import reached_by_input
from tfcompress.quantization.imbalance.input_statistics import Seen
from tfcompress.quantization.imbalance.late_data import differs, warn_of_lost
from tfcompress.quantization.numerics.custom_gradient import values_alone
from tfcompress.quantization.ptq.leaky_relu_ranges import align
from tfcompress.quantization.ranges import observers
from tfcompress.quantization.ranges.discrete_values import DiscreteValues
from tfcompress.quantization.ranges.histograms import LEAST_EXPONENT, MOST_EXPONENT, SIDE

_EXPONENTS = range(LEAST_EXPONENT, MOST_EXPONENT + 1)
_POWERS = np.ldexp(1.0, _EXPONENTS[:-1]).astype("float32")
_KEPT = "__tfcompress_observer"
"""Where a model has its observer; Keras saves nothing whose name begins so."""

LARGEST = 1 << 25
"""Bytes of a tensor: so much of the data runs through a model at once as makes none larger, if `batch_size` is more."""

_WIDEST = float(np.finfo("float32").max)
_WIDTHS = np.ldexp(1.0 / SIDE, _EXPONENTS).astype("float32")


@accepts_old_calls(places=((2, "batch_size", None),))
@says_memory
def calibrate(model: keras.Model, data: Any, *, batch_size: int = 32) -> None:
    """Find the ranges of a quantized model's activations from data; ranges that were learned before are replaced.

    The data runs through the model with quantized weights and float activations; for each batch the extremes, and
    where the configuration asks for it a histogram, are computed on the device, and merged. One set of data gives one
    range, however it is cut into batches and ordered, except with `range="ema"`, and in models with stateful recurrent
    layers: these begin with zeros, go on from batch to batch (give sequences in their order), and have the state of
    before afterwards. An activation that is 0 throughout gets the range 0 to 1, and a warning names it. Which layers
    stay float, since channels differ too much for one scale, was decided by `quantize`: for data whose channels are of
    other sizes, quantize anew. A warning names the tensors, where that is so.

    Args:
        model: What `tfcompress.quantize` returned, maybe trained since; its ranges are changed in place.
        data: A few hundred samples like those that the model will see: an array, a dict or list of arrays for
            several inputs, or anything that yields batches (targets behind the inputs are left out). Arrays with
            different numbers of rows, as the nodes and the edges of a graph, are one batch.
        batch_size: Samples in a batch, where `data` holds arrays; fewer are computed at once where the activations of
            so many would be very large, unless the range is "ema".

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
    before = next((quantizer.seen for quantizer in quantizers if quantizer.seen is not None), None)
    data = again(data)
    find_ranges(model, data, batch_size)
    if differs(before, quantizers[0].seen or {}):
        warn_of_lost(model, data, batch_size)


def find_ranges(model: keras.Model, data: Any, batch_size: int) -> list[np.ndarray]:
    """Find the ranges, as `calibrate` does; how channels differ isn't looked at.

    Returns:
        The first samples of each input.
    """
    quantizers = _to_calibrate(model)
    before = [read(quantizer.counts) for quantizer in quantizers]
    batch_size = _fitting(model, quantizers, batch_size)
    try:
        for quantizer in quantizers:
            quantizer.counts.assign(ops.zeros((2,), "int32"))  # nothing follows from the old range
        seen = Seen(model)
        with steps_at_once(model), beginning(model):
            any_size = last_is_smaller(model, data, batch_size)
            found = _found(model, quantizers, map(seen.add, batches(model, data, batch_size)), any_size)
    finally:
        for quantizer, counts in zip(quantizers, before, strict=True):
            put(quantizer.counts, counts)
    for quantizer in quantizers:
        quantizer.see(None)
    quantizers[0].see(seen.found())
    dead = [quantizer.source for quantizer, (low, high, _) in zip(quantizers, found, strict=True) if not high > low]
    if dead:
        warnings.warn(
            f"Expected activations that vary. Received: nothing but zeros from {', '.join(map(repr, dead))} on the "
            "calibration data. What is quantized there has the range 0 to 1 now: train the model, or give other data, "
            "if these layers are meant to have other outputs.",
            stacklevel=user_level(),
        )
    small = [
        quantizer.source for quantizer, (low, high, _) in zip(quantizers, found, strict=True) if 0 < high - low < LEAST
    ]
    if small:
        warnings.warn(
            f"Expected activations that span {LEAST:g} at least, as TFLite files hold no smaller range. Received: less "
            f"from {', '.join(map(repr, small))} on the calibration data. These ranges are widened, and what is "
            "quantized there is coarse: scale what comes before, or keep these layers float with layers=.",
            stacklevel=user_level(),
        )
    for quantizer, (low, high, settled) in zip(quantizers, found, strict=True):
        if high > low:
            factor = max(1.0, LEAST / (high - low))
            quantizer.set_range(low * factor, high * factor, settled=settled)
        else:
            quantizer.set_range(-1.0 if quantizer.spec.symmetric else 0.0, 1.0)
    align(model, [quantizer for quantizer, (low, high, _) in zip(quantizers, found, strict=True) if high > low])
    return seen.first


def _to_calibrate(model: Any) -> list[ActivationQuantizer]:
    check_model(model)
    check_floats(model, "Quantize and calibrate")
    quantizers = [quantizer for quantizer in activation_quantizers(model) if quantizer.learns]
    if not quantizers or not is_graph(model):
        raise ValueError(
            "Expected a model with ranges of activations to find, as tfcompress.quantize(model, 'int8') returns. "
            f"Received: {model.name!r}, which has none."
        )
    return quantizers


def _fitting(model: keras.Model, quantizers: list[ActivationQuantizer], batch_size: int) -> int:
    """Return how many samples are computed at once: fewer, a power of two, where that makes very large tensors.

    Tensors of free sizes aren't counted. Batches that the range itself depends on stay as they are.
    """
    check_batch_size(batch_size)
    if any(quantizer.spec.range == "ema" for quantizer in quantizers):
        return batch_size
    shapes = [tuple(x.shape[1:]) for call in index_of(model) for x in call.outputs]
    sizes = [4 * math.prod(shape) for shape in shapes if None not in shape]
    most = max(1, LARGEST // max([1, *sizes]))
    return batch_size if batch_size <= most else 1 << (most.bit_length() - 1)


def _found(
    model: keras.Model, quantizers: list[ActivationQuantizer], batches: Iterable[list[Any]], any_size: bool
) -> list[tuple[float, float, bool]]:
    """Return the range of each quantizer, and whether it is that of discrete values."""
    observer = _observer(model, quantizers)
    found = [observers.make(quantizer.spec) for quantizer in quantizers]
    values = {quantizer.name: DiscreteValues() for quantizer in quantizers if quantizer.name in observer.scaled}
    weights = observer.weights_now()
    for batch in batches:
        statistics = predict_on_batch(observer, batch, weights, any_size)
        for quantizer, estimator in zip(quantizers, found, strict=True):
            own = statistics[quantizer.name]
            low, high = map(float, own["extremes"])
            if not high - low <= _WIDEST:
                raise ValueError(
                    f"Expected finite activations. Received: {low:.6g} to {high:.6g} from {quantizer.source!r} on the "
                    "calibration data, which no float32 range holds. Check the data, and the weights of that layer and "
                    "of those before it."
                )
            estimator.update(low, high, own.get("counts"))
            if quantizer.name in values:
                values[quantizer.name].add(own["values"])
    made = []
    for quantizer, estimator in zip(quantizers, found, strict=True):
        low, high = estimator.range()
        spec, discrete = quantizer.spec, values.get(quantizer.name)
        ends = discrete.range(low, high, spec.bits, spec.symmetric) if discrete and high > low else None
        made.append((*(ends or (low, high)), ends is not None))
    return made


def _observer(model: keras.Model, quantizers: list[ActivationQuantizer]) -> _Observer:
    """Return the observer of a model, made once: TensorFlow keeps something of all that it traces."""
    kept, key = vars(model), [(quantizer, quantizer.spec) for quantizer in quantizers]
    if _KEPT not in kept or kept[_KEPT].key != key:
        kept[_KEPT] = _Observer(model, quantizers)
        object.__setattr__(kept[_KEPT], "key", key)
    observer: _Observer = kept[_KEPT]
    return observer


class _Observer(keras.Model):
    """Gives, for each quantizer of a model, the extremes of what reaches it and, where it is asked for, a histogram.

    Where an input reaches it, moved, scaled and shifted at most, the values themselves are given too. It runs through
    the model's own graph and adds nothing to it: what a call leaves in the layers would stay. It is called with the
    model's inputs and its quantized weights, which are the same in all batches.
    """

    def __init__(self, model: keras.Model, quantizers: list[ActivationQuantizer]):
        super().__init__(name="observer", autocast=False)
        self.model = model
        self.wrappers = wrapped_layers(model)
        self.counting = {quantizer.name: observers.make(quantizer.spec).needs_histogram for quantizer in quantizers}
        graph = index_of(model)
        self.scaled = {
            call.operation.name
            for call in graph
            if isinstance(call.operation, ActivationQuantizer) and reached_by_input(call.inputs[0], graph.producer)
        }

    def weights_now(self) -> list[dict[int, Any]]:
        """Return the quantized weights, as they are now."""
        with values_alone():
            return [wrapper.transformed() for wrapper in self.wrappers]

    def call(self, inputs: Any) -> Any:
        samples, weights = inputs
        graph = graph_of(self.model)
        found: dict[str, dict[str, Any]] = {}

        def operation_fn(operation: Any) -> Any:
            if not isinstance(operation, ActivationQuantizer):
                return caller(operation)

            def observe(x: Any, observe: bool = True) -> Any:
                name = operation.name
                if observe and name in self.counting:
                    values = operation.meant(ops.cast(x, "float32"))
                    found[name] = _statistics(values, self.counting[name])
                    if name in self.scaled:
                        found[name]["values"] = values
                return x

            return observe

        flat = [
            ops.cast(x, declared.dtype) for x, declared in zip(keras.tree.flatten(samples), graph.inputs, strict=True)
        ]
        with values_alone(), ranges_unknown(), materialized(self.wrappers, weights):
            run_through_graph(graph, flat, operation_fn=operation_fn)
        return found


def _statistics(x: Any, histogram: bool) -> dict[str, Any]:
    """Return the least and the largest value and, if asked for, what `histograms.counted` counts."""
    low, high = ops.min(x), ops.max(x)
    extremes = ops.stack([low, high])
    if not histogram:
        return {"extremes": extremes}
    place = ops.sum(ops.cast(ops.maximum(-low, high) >= _POWERS, "int32"))
    bins = ops.clip(ops.floor(x / ops.take(_WIDTHS, place)) + SIDE, 0, 2 * SIDE - 1)
    # Values that aren't finite are found by the extremes; here they must only not fail.
    bins = ops.reshape(ops.cast(ops.where(ops.isfinite(bins), bins, 0.0), "int32"), (-1,))
    # JAX's bincount has no fixed size.
    counts = ops.segment_sum(ops.ones_like(bins), bins, num_segments=2 * SIDE)
    return {"extremes": extremes, "counts": counts}
