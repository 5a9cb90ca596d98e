"""Whether float16 can hold what a model computes, before it is trained so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.layers import Layer

from tfcompress.core.old_calls import accepts_old_calls
from tfcompress.core.out_of_memory import says_memory
from tfcompress.core.passthrough import Inserted, innermost
from tfcompress.data.model_batches import batches, check_batch_size
from tfcompress.graph import check_built, rebuild
from tfcompress.graph.keras_quantized import check_floats
from tfcompress.graph.recursion_limit import functional
from tfcompress.graph.rewrite import Call, calls
from tfcompress.graph.selectors import Layers
from tfcompress.precision.casting import in_float32
from tfcompress.precision.float32_rule import named, reasons
from tfcompress.precision.mixed import cast, weights_in_half
from tfcompress.precision.operation_kinds import has_policy
from tfcompress.precision.range_report import Float16Report, Float16Row
from tfcompress.quantization.numerics.float16_range import LARGEST


@accepts_old_calls(places=((2, "keep_float32", None),))
@says_memory
def check_float16(model: keras.Model, data: Any, *, keep_float32: Layers = None, batch_size: int = 32) -> Float16Report:
    """Return which layers would overflow under mixed_float16, whose largest number is 65504.

    The model runs in inference, twice. In float32 the largest |value| of each layer is found: of its weights, of what
    it is given and of what it returns, in a stream. A layer that `tfcompress.mixed_precision` keeps in float32 doesn't
    overflow; one in float16 does if it casts, or returns, more than float16 holds, or anything that isn't finite. Then
    it runs in mixed_float16, to find the layers that make such numbers inside of them: before a fused activation, in
    the products of an attention, in a call of your own.

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
    check_floats(model, "Check")
    check_batch_size(batch_size)
    flat = in_float32(rebuild(model), keep_casts=True)
    kept = reasons(flat, choice, "mixed_float16")
    choice.check()
    observers = [_Observer(flat)]
    unseen = ""
    try:
        half, kept = cast(flat, "mixed_float16", kept)
        observers.append(_Observer(half))
    except ValueError as error:  # the device on which it is to be trained may be another one
        unseen = str(error)
    samples = 0
    for batch in batches(flat, data, batch_size):
        for observer in observers:
            observer.see(batch)
        samples += len(batch[0]) if batch[0].ndim else 1
    inside = {name for observer in observers[1:] for name in observer.makes_non_finite()}
    rows = _rows(calls(flat), observers[0].largest, kept, inside)
    return Float16Report(model.name, samples, tuple(rows), unseen)


class _Observer:
    """Runs a flat model on batches, and keeps the largest |value| of each of its float tensors, by id."""

    def __init__(self, flat: keras.Model):
        self.graph = calls(flat)
        tensors = (*flat.inputs, *(x for call in self.graph for x in call.outputs))
        self.watched = [x for x in tensors if keras.backend.is_float_dtype(x.dtype)]
        self.model = functional(flat.inputs, [_Largest()(x) for x in self.watched])
        self.largest = {id(x): 0.0 for x in self.watched}

    def see(self, batch: Any) -> None:
        found = self.model.predict_on_batch(batch)
        found = found if isinstance(found, list | tuple) else [found]
        for x, value in zip(self.watched, found, strict=True):
            self.largest[id(x)] = max(self.largest[id(x)], float(np.asarray(value)[0]))

    def makes_non_finite(self) -> Iterator[str]:
        """Yield the names of what returns something infinite, or NaN, and is given finite numbers alone."""
        for call in self.graph:
            given, made = ([self.largest.get(id(x), 0.0) for x in xs] for xs in (call.inputs, call.outputs))
            if np.isinf(made).any() and not np.isinf(given).any():
                yield call.operation.name


class _Largest(keras.layers.Layer):
    """The largest absolute value of a tensor; infinite if one isn't finite."""

    def __init__(self) -> None:
        super().__init__(dtype="float32")

    def call(self, inputs: Any) -> Any:
        values = ops.where(ops.isfinite(inputs), ops.abs(inputs), float("inf"))
        return ops.reshape(ops.max(values), (1,))

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor((1,), "float32")


def _rows(graph: list[Call], seen: dict[int, float], kept: dict[int, str], broken: set[str]) -> list[Float16Row]:
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
        # A layer that casts its inputs itself doesn't lose those beyond float16.
        cast_inputs = inputs if getattr(inner, "autocast", True) else 0.0
        overflows = computes and max(cast_inputs, outputs, weight) > LARGEST
        inside = computes and not overflows and operation.name in broken
        found[id(operation)] = Float16Row(
            operation.name,
            type(inner).__name__,
            "float16" if computes else (str(inner.compute_dtype) if isinstance(inner, Layer) else "float32"),
            inputs,
            outputs,
            weight,
            overflows or inside,
            inside,
            kept.get(id(operation), ""),
        )
    return list(found.values())
