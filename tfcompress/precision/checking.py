"""Whether float16 can hold what a model computes, before it is trained so."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from keras.layers import Layer

from tfcompress.export.half import LARGEST
from tfcompress.passthrough import Inserted
from tfcompress.precision.casting import in_float32
from tfcompress.precision.mixed import weights_in_half
from tfcompress.precision.report import Float16Report, Float16Row
from tfcompress.precision.rule import has_policy, innermost, named, reasons
from tfcompress.quantization.batches import batches, check_batch_size
from tfcompress.surgery import check_built, rebuild
from tfcompress.surgery.choosing import Layers
from tfcompress.surgery.deep import functional
from tfcompress.surgery.walking import Call, calls


def check_float16(model: keras.Model, data: Any, keep_float32: Layers = None, *, batch_size: int = 32) -> Float16Report:
    """Return which layers would overflow under mixed_float16, whose largest number is 65504.

    The model runs in float32, in inference, and for each layer the largest |value| is found of its weights, of what it
    is given and of what it returns, in a stream. A layer that `tfcompress.mixed_precision` keeps in float32 doesn't
    overflow; one in float16 does if it is given, or returns, more than float16 holds, or anything that isn't finite.

    Args:
        model: A built Keras model of any kind; it is not changed.
        data: Samples like those that the model will see, as `tfcompress.calibrate` takes them.
        keep_float32: As in `tfcompress.mixed_precision`.
        batch_size: Samples in a batch, where `data` holds arrays.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If it isn't built or can't be opened; if `data` is empty or doesn't fit; if `keep_float32` matches
            nothing, or `batch_size` isn't an integer of at least 1.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> layers = [keras.Input((4,)), keras.layers.Dense(3, name="first"), keras.layers.Dense(2, name="last")]
    >>> model = keras.Sequential(layers)
    >>> tfc.check_float16(model, np.full((8, 4), 1e5)).overflows
    ['first']
    """
    choice = named(keep_float32)
    check_built(model)
    check_batch_size(batch_size)
    flat = in_float32(rebuild(model), keep_casts=True)
    graph = calls(flat)
    kept = reasons(graph, flat.outputs, choice, "mixed_float16")
    choice.check()
    watched = [
        x for x in (*flat.inputs, *(x for c in graph for x in c.outputs)) if keras.backend.is_float_dtype(x.dtype)
    ]
    observer = functional(flat.inputs, [_Largest()(x) for x in watched])
    largest = np.zeros(len(watched))
    samples = 0
    for batch in batches(flat, data, batch_size):
        found = observer.predict_on_batch(batch)
        found = found if isinstance(found, list | tuple) else [found]
        largest = np.maximum(largest, [float(np.asarray(value)[0]) for value in found])
        samples += len(batch[0]) if batch[0].ndim else 1
    seen = dict(zip(map(id, watched), largest.tolist(), strict=True))
    return Float16Report(model.name, samples, tuple(_rows(graph, seen, kept)))


class _Largest(keras.layers.Layer):
    """The largest absolute value of a tensor; infinite if one isn't finite."""

    def __init__(self) -> None:
        super().__init__(dtype="float32")

    def call(self, inputs: Any) -> Any:
        values = ops.where(ops.isfinite(inputs), ops.abs(inputs), float("inf"))
        return ops.reshape(ops.max(values), (1,))

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor((1,), "float32")


def _rows(graph: list[Call], seen: dict[int, float], kept: dict[int, str]) -> list[Float16Row]:
    half: set[int] = set()
    """Tensors in float16, by id."""
    found: dict[int, Float16Row] = {}
    for call in graph:
        operation = call.operation
        inner = innermost(operation)
        given = [x for x in call.inputs if id(x) in seen]
        made = [x for x in call.outputs if id(x) in seen]
        if isinstance(operation, Inserted):
            computes = bool(half & set(map(id, given)))
            half.update(id(x) for x in made if computes)
            continue
        if not made:
            continue
        if isinstance(operation, Layer):
            computes = id(operation) not in kept and has_policy(inner)
        else:
            computes = id(operation) not in kept and bool(given) and all(id(x) in half for x in given)
        half.update(id(x) for x in made if computes)
        inputs, outputs = (max((seen[id(x)] for x in tensors), default=0.0) for tensors in (given, made))
        weights = (np.nan_to_num(np.abs(v), nan=np.inf).max(initial=0.0) for _, v in weights_in_half([operation]))
        weight = float(max(weights, default=0.0))
        before = found.get(id(operation))
        if before is not None:  # a shared layer
            inputs, outputs = max(inputs, before.largest_input), max(outputs, before.largest_output)
        overflows = computes and max(inputs, outputs, weight) > LARGEST
        found[id(operation)] = Float16Row(
            operation.name,
            type(inner).__name__,
            "float16" if computes else (str(inner.compute_dtype) if isinstance(inner, Layer) else "float32"),
            inputs,
            outputs,
            weight,
            overflows,
            kept.get(id(operation), ""),
        )
    return list(found.values())
