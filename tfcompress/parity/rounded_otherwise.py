"""What a model gives in Keras when values are rounded as a file's kernels may round them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.core.wrapper import CompressedLayer, wrapped_layers
from tfcompress.graph.inputs.symbolic import has_graph
from tfcompress.graph.rewrite import calls
from tfcompress.layers.names import name_of
from tfcompress.parity.quantized_model import QuantizedModel
from tfcompress.parity.reference import reference, weights_once
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer, activation_quantizers
from tfcompress.quantization.graph.grids_at_hand import in_floats
from tfcompress.tracing.trace import Trace

SHIFT = 1 / 8
"""By how much of the scale the ends of all ranges move so that near-ties round the other way: about 3 % of all values,
as in a file, whose kernels round after sums in integers."""

DITHER = 1 / 32
"""By how much of the scale values move to the same end, where `SHIFT` shows too little: as many round the other way."""

DITHERED = 3
"""How often."""

COARSE = 4
"""How many times that it is behind a leaky ReLU: XNNPACK multiplies by slopes of 8 bits, so that some 12 % do."""


def rounded_otherwise(
    model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray], deployment: QuantizedModel
) -> Iterator[list[dict[str, np.ndarray]]]:
    """Yield what the model gives when near-ties round the other way, and then, where a file differs by more, more."""
    with weights_once(model):
        made = alike_outputs(model, trace, inputs, deployment)
    yield made
    if not is_dynamic(deployment):
        yield [dithered(model, trace, inputs, seed) for seed in range(DITHERED)]


def inputs_rounded(
    model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray], layers: Collection[str]
) -> Iterator[list[dict[str, np.ndarray]]]:
    """Yield what the model gives when the inputs of some layers are rounded to 8 bits, each vector in its own range.

    Kernels for weights of 4 bits round so at run time, or in ranges of smaller blocks.
    """
    with weights_once(model), contextlib.ExitStack() as undo:
        for layer in wrapped_layers(model):
            if layer.name in layers:
                object.__setattr__(layer, "call", functools.partial(_on_rounded, layer))
                undo.callback(object.__delattr__, layer, "call")
        yield [reference(model, trace, inputs)]


def _on_rounded(layer: CompressedLayer, *args: Any, **kwargs: Any) -> Any:
    args, kwargs = keras.tree.map_structure(_rounded_rows, (args, kwargs))
    return type(layer).call(layer, *args, **kwargs)


def _rounded_rows(x: Any) -> Any:
    if not keras.ops.is_tensor(x) or not keras.backend.is_float_dtype(x.dtype):
        return x
    limit = keras.ops.max(keras.ops.abs(x), axis=-1, keepdims=True)
    scale = keras.ops.maximum(limit, 1e-30) / 127.0
    return keras.ops.round(x / scale) * scale


def alike_outputs(
    model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray], deployment: QuantizedModel
) -> list[dict[str, np.ndarray]]:
    """Return what the model gives when near-ties round the other way."""
    if deployment.scheme is not None and is_dynamic(deployment):
        # A runtime finds the range of a whole tensor, not of each sample, and puts zero elsewhere: the error is
        # another, of about the size of that of rounding at all.
        made = []
        for bits in (deployment.scheme.activation_bits - 1, 16):
            with _dynamic_bits(model, bits):
                made.append(reference(model, trace, inputs))
        return made
    graph = calls(model) if has_graph(model) else []
    leaky = {id(x) for call in graph if name_of(call.operation) == "leakyrelu" for x in call.outputs}
    coarse = {id(call.operation) for call in graph for x in call.inputs if id(x) in leaky}
    made = []
    for sign in (1, -1):
        with in_floats(), _ranges_as_numbers(model, sign * SHIFT, coarse):
            made.append(reference(model, trace, inputs))
    return made


@contextlib.contextmanager
def _ranges_as_numbers(model: keras.Model, shift: float = 0.0, coarse: Collection[int] = ()) -> Iterator[None]:
    """Let the ranges that were found from data be numbers for the time of the block, of which grids are made at once.

    Args:
        model: calibrated.
        shift: by how much of the scale their ends move.
        coarse: the `id`s of the quantizers of which they move `COARSE` times as much.
    """
    with contextlib.ExitStack() as undo:
        for quantizer in activation_quantizers(model):
            if quantizer.learns and quantizer.calibrated:
                moved = shift * (COARSE if id(quantizer) in coarse else 1)
                factor = np.float32(1 + moved * 2.0 ** (1 - quantizer.spec.bits))
                low, high = np.asarray(quantizer.range, np.float32) * factor
                undo.callback(object.__setattr__, quantizer, "fixed", None)
                object.__setattr__(quantizer, "fixed", (float(low), float(high)))
        yield


def usual(model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what the model gives, rounding as Keras does."""
    with _ranges_as_numbers(model):
        return reference(model, trace, inputs)


def is_dynamic(deployment: QuantizedModel | None) -> bool:
    """Return whether a model's activations have ranges that are found at run time."""
    scheme = deployment.scheme if deployment is not None else None
    return scheme is not None and scheme.activations == "dynamic"


def dithered(model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Return what the model gives when each value, also one next to 0, is rounded a little up or down of where it is.

    Ranges whose ends move (`alike_outputs`) round large values otherwise. Where a few are much larger than all others,
    that shows little.
    """
    random = np.random.default_rng(seed)

    def rounded(quantizer: ActivationQuantizer, x: Any, low: Any, high: Any) -> Any:
        known = None not in x.shape
        signs = random.choice(np.array([-1, 1], np.float32), tuple(x.shape)) if known else np.float32(1)
        moved = x + DITHER * signs * quantizer.spec.scale(low, high)
        return type(quantizer).quantized(quantizer, moved, low, high)

    with in_floats(), contextlib.ExitStack() as undo:
        for quantizer in activation_quantizers(model):
            if quantizer.learns:
                object.__setattr__(quantizer, "quantized", functools.partial(rounded, quantizer))
                undo.callback(object.__delattr__, quantizer, "quantized")
        return reference(model, trace, inputs)


@contextlib.contextmanager
def _dynamic_bits(model: keras.Model, bits: int) -> Iterator[None]:
    """Let the quantizers that find their range at run time have other bits for the time of the block."""
    with contextlib.ExitStack() as undo:
        for quantizer in activation_quantizers(model):
            if quantizer.spec.dynamic:
                undo.callback(object.__setattr__, quantizer, "spec", quantizer.spec)
                object.__setattr__(quantizer, "spec", dataclasses.replace(quantizer.spec, bits=bits))
        yield
