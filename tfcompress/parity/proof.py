"""Proof that a file is the model: run it in its real runtime, and compare with Keras."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.arguments import running
from tfcompress.core.keras_private import activations_freed
from tfcompress.core.uneven_rows import cut, fixes_rows, is_uneven
from tfcompress.core.wrapper import CompressedLayer, wrapped_layers
from tfcompress.data.named_inputs import count_samples, fit_inputs
from tfcompress.graph import rebuild
from tfcompress.graph.inputs.declared import given_shapes
from tfcompress.graph.inputs.sizes import MANY, NoSizeFits, batch_of, hints_of, is_free
from tfcompress.graph.inputs.symbolic import graph_of, has_graph
from tfcompress.graph.rewrite import calls
from tfcompress.graph.sample_inputs.contents import flat_contents, vocabulary
from tfcompress.graph.sample_inputs.input_paths import NOISE, WHOLE, Content
from tfcompress.graph.sample_inputs.samples import draw, in_words, sample_shapes
from tfcompress.layers.names import name_of
from tfcompress.parity.quantized_model import QuantizedModel
from tfcompress.parity.tolerance import OutputParity, Parity, ParityError, compare
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer, activation_quantizers
from tfcompress.quantization.graph.bias_rounding import weights_unchanged
from tfcompress.quantization.numerics.custom_gradient import values_alone
from tfcompress.runtime.integer_io import held, io_grids, predict
from tfcompress.runtime.runner import DEFAULT_BATCH_SIZE, Runner, fill
from tfcompress.tracing.float32_view import float32_view
from tfcompress.tracing.trace import Trace

__all__ = ["OutputParity", "Parity", "ParityError", "compare", "verify"]

SHIFT = 1 / 8
"""By how much of the scale the ends of all ranges move so that near-ties round the other way: about 3 % of all values,
as in a file, whose kernels round after sums in integers."""

DITHER = 1 / 32
"""By how much of the scale values move to the same end, where `SHIFT` shows too little: as many round the other way."""

DITHERED = 3
"""How often."""

COARSE = 4
"""How many times that it is behind a leaky ReLU: XNNPACK multiplies by slopes of 8 bits, so that some 12 % do."""


def verify(  # noqa: PLR0917
    model: keras.Model,
    trace: Trace,
    runner: Runner,
    precision: str,
    data: Any = None,
    deployment: QuantizedModel | None = None,
) -> Parity:
    """Run a file and its Keras model on the same data, and compare.

    A float file must compute the same within float's rounding. In an integer one near-ties may round the other way
    than in Keras, and in a deep net one step early on may become many; so what is allowed follows from how far the
    model's own outputs change when near-ties round the other way (see `tolerance.TIMES_NOISE`), which is measured where
    the file differs by more than is always allowed.

    Args:
        model: what the file must compute; its float32 view is the reference.
        trace: that the file was made from.
        runner: the file, opened.
        precision: "float32" or "float16", the file's.
        data: an array, a list or a dict by input name; None: seeded random inputs of what is known of each: the range
            of each channel, the size of a table (see `graph.sample_inputs.contents`).
        deployment: of a quantized model; None: a float one.

    Returns:
        The differences, all within tolerance.

    Raises:
        ParityError: an output differs by more, has another shape, or is missing.
        ValueError: `data` doesn't fit the model, or Keras can't run the model on what was generated.
    """
    scheme = deployment.scheme if deployment is not None else None
    rounds = scheme is not None and scheme.activations is not None
    if data is not None:
        inputs, about = fit_inputs(data, trace.inputs, finite=True), "the data given"
    else:
        inputs, about = _generated(model, trace)
    if io_grids(runner):  # what an integer input can't hold, no output can show
        inputs = held(runner, inputs)
    with _weights_once(model):
        expected = _on_generated(model, trace, inputs) if data is None else _usual(model, trace, inputs)
    received = predict(runner, inputs)
    if not isinstance(received, Mapping):
        received = {runner.output_names[0]: received}
    scales = None
    if deployment is not None and rounds:
        # By position: the names of a file's outputs are the keys of a dict that the model returns.
        grids = [*deployment.scales.values(), *[None] * (len(trace.outputs) - len(deployment.scales))]  # of states
        scales = dict(zip(trace.outputs, grids, strict=True))
    # What is always allowed is the least: where a file differs by no more, the rest needn't be measured.
    ways: Iterator[list[dict[str, np.ndarray]]] = iter(())
    if deployment is not None and rounds:
        ways = _rounded_otherwise(model, trace, inputs, deployment)
    if deployment is not None and deployment.rounding:
        ways = itertools.chain(ways, _inputs_rounded(model, trace, inputs, deployment.rounding))
    alike: list[dict[str, np.ndarray]] = []
    least = precision if scales is None else "float32"
    while True:
        try:
            differences = compare(expected, received, precision if alike else least, scales, alike)
            return Parity(count_samples(inputs), differences, about)
        except ParityError as error:
            more = next(ways, None)
            if more is None:
                error.inputs = inputs
                raise
            alike += more


def input_ranges(model: keras.Model) -> list[tuple[float, float] | None]:
    """Return the range of the quantizer that reads each input of a model, in their order; None where none does."""
    if not has_graph(model):
        return [None] * len(model.inputs)
    found = {
        id(call.inputs[0]): call.operation.range
        for call in calls(model)
        if isinstance(call.operation, ActivationQuantizer) and not call.operation.spec.dynamic
    }
    return [found.get(id(x)) for x in model.inputs]


def _rounded_otherwise(
    model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray], deployment: QuantizedModel
) -> Iterator[list[dict[str, np.ndarray]]]:
    """Yield what the model gives when near-ties round the other way, and then, where a file differs by more, more."""
    with _weights_once(model):
        made = alike_outputs(model, trace, inputs, deployment)
    yield made
    if not is_dynamic(deployment):
        yield [dithered(model, trace, inputs, seed) for seed in range(DITHERED)]


def _inputs_rounded(
    model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray], layers: Collection[str]
) -> Iterator[list[dict[str, np.ndarray]]]:
    """Yield what the model gives when the inputs of some layers are rounded to 8 bits, each vector in its own range.

    Kernels for weights of 4 bits round so at run time, or in ranges of smaller blocks.
    """
    with _weights_once(model), contextlib.ExitStack() as undo:
        for layer in wrapped_layers(model):
            if layer.name in layers:
                object.__setattr__(layer, "call", functools.partial(_on_rounded, layer))
                undo.callback(object.__delattr__, layer, "call")
        yield [reference(model, trace, inputs)]


def _on_rounded(layer: CompressedLayer, x: Any, *args: Any, **kwargs: Any) -> Any:
    limit = keras.ops.max(keras.ops.abs(x), axis=-1, keepdims=True)
    scale = keras.ops.maximum(limit, 1e-30) / 127.0
    return type(layer).call(layer, keras.ops.round(x / scale) * scale, *args, **kwargs)


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
        with _ranges_as_numbers(model, sign * SHIFT, coarse):
            made.append(reference(model, trace, inputs))
    return made


@contextlib.contextmanager
def _weights_once(model: keras.Model) -> Iterator[None]:
    """Let the weights of a model be transformed once for all calls of it in the block."""
    with contextlib.ExitStack() as stack:
        with float32_view(model), values_alone():
            stack.enter_context(weights_unchanged(model))
        yield


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


def _usual(model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
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

    with contextlib.ExitStack() as undo:
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


def _generated(model: keras.Model, trace: Trace) -> tuple[dict[str, np.ndarray], str]:
    """Return samples for all inputs of a model, and what they are in words."""
    sampled = trace.signature.sampled_inputs
    names, specs = list(sampled), [trace.inputs[name] for name in sampled]
    inputs_here = trace.signature.own_inputs
    states = [spec.shape for name, spec in sampled.items() if name not in inputs_here]
    own = [spec.shape for spec in inputs_here.values()]
    shapes = [*given_shapes(list(inputs_here), own), *states]
    own += states
    known = _known(model, trace)
    words = vocabulary(model)

    def make(sizes: Sequence[tuple[int, ...]]) -> dict[str, np.ndarray]:
        random = np.random.default_rng(0)
        drawn = zip(names, sizes, specs, known, strict=False)  # `known` is of all inputs
        made = {name: draw(size, spec.dtype, content, random, words) for name, size, spec, content in drawn}
        return trace.signature.completed(model, made)

    def run(sizes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        return list(reference(model, trace, make(sizes)).values())

    try:
        sizes = sample_shapes(shapes, run, hints=hints_of(model, shapes) if is_free(shapes) else (), strict=True)
    except NoSizeFits as error:
        tried = dict(zip(names, error.shapes, strict=True))
        raise ValueError(
            f"Expected a model that runs on random inputs of {tried}, or of {error.tried - 1} other sizes. Received: "
            f"{model.name!r}, which failed: {error}. Say the sizes with input_shapes=, or give data of your own with "
            "verify=x."
        ) from error.__cause__
    fixed = None if fixes_rows(own) else batch_of(own)
    if fixed is not None and all(spec.shape and spec.shape[0] == fixed for spec in trace.outputs.values()):
        # Several batches of it: one sample shows little.
        times = -(-MANY // fixed)
        sizes = [(size[0] * times, *size[1:]) if size else () for size in sizes]
    inputs = make(sizes)
    return inputs, in_words(known, list(trace.inputs))


def _on_generated(model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of Keras for generated inputs, which a model may not take."""
    try:
        return _usual(model, trace, inputs)
    except Exception as error:  # whatever the model raises
        raise ValueError(
            f"Expected a model that runs on random inputs of {_shapes(inputs)}. Received: {model.name!r}, which "
            f"failed: {error}. Give data of your own with verify=x, with as many rows in each input as it needs."
        ) from error


def _known(model: keras.Model, trace: Trace) -> list[Content]:
    """Return what is known of each input, in their order."""
    graph: Any = model
    if not has_graph(model):
        try:
            graph = rebuild(model, check=False)
        except (ValueError, TypeError):  # it can't be opened
            graph = None
    names = list(trace.signature.own_inputs)
    known = [NOISE] * len(names)
    if graph is not None:
        found = flat_contents(graph, graph_of(graph).input)
        known = found if len(found) == len(known) else known
    ranges = input_ranges(model) if has_graph(model) else known
    made = []
    for name, content, span in zip(names, known, ranges, strict=True):
        if name in trace.integral and not content.whole:
            content = Content(WHOLE, 0.0, vocabulary(model) - 1.0, True)  # noqa: PLW2901
        elif content.low is None and isinstance(span, tuple):
            about = "drawn from the range of the whole input that its quantizer has"
            content = dataclasses.replace(content, about=about, low=span[0], high=span[1])  # noqa: PLW2901
        made.append(content)
    states, drawn = len(trace.signature.sampled_inputs) - len(names), len(trace.inputs) - len(names)
    as_drawn = dataclasses.replace(NOISE, about="numbers as the model draws them")
    return [*made, *[NOISE] * states, *[as_drawn] * (drawn - states)]


def reference(model: keras.Model, trace: Trace, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of Keras.

    As many samples are computed at once as the file takes; of one that takes a single one, more, since Keras then shows
    what depends on the others of the batch.
    """
    samples = count_samples(inputs)
    asked = batch_of(spec.shape for spec in trace.inputs.values())
    own = batch_of(spec.shape for spec in trace.signature.inputs.values())
    step = own or (asked if asked is not None and asked > 1 else DEFAULT_BATCH_SIZE)
    if is_uneven(inputs.values()):
        step = samples
    pieces = []
    call = trace.signature.caller(model)
    for part in cut(inputs, step):
        batch = list(part.values())
        here = count_samples(part)
        if here < step == asked:
            batch = [fill(array, step) for array in batch]
        tensors = [keras.ops.convert_to_tensor(array) for array in batch]
        with (
            float32_view(model),
            running(f"the model {model.name!r}", batch),
            keras.StatelessScope(),
            activations_freed(),
            values_alone(),
        ):
            outputs = call(tensors)
        made = {name: keras.ops.convert_to_numpy(outputs[name]) for name in trace.outputs}
        if here < step == asked:
            made = {name: value[:here] if value.shape[:1] == (step,) else value for name, value in made.items()}
        pieces.append(made)
    if len(pieces) == 1:
        return pieces[0]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in trace.outputs}


def _shapes(inputs: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in inputs.items()}
