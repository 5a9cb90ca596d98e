"""Proof that a file is the model: run it in its real runtime, and compare with Keras."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.uneven_rows import fixes_rows
from tfcompress.data.named_inputs import count_samples, fit_inputs
from tfcompress.graph import rebuild
from tfcompress.graph.inputs.declared import given_shapes
from tfcompress.graph.inputs.sizes import MANY, NoSizeFits, batch_of, hints_of, is_free
from tfcompress.graph.inputs.symbolic import graph_of, has_graph
from tfcompress.graph.rewrite import calls
from tfcompress.graph.sample_inputs.contents import flat_contents, vocabulary
from tfcompress.graph.sample_inputs.input_paths import NOISE, WHOLE, Content
from tfcompress.graph.sample_inputs.samples import draw, in_words, sample_shapes
from tfcompress.parity.quantized_model import QuantizedModel
from tfcompress.parity.reference import reference, weights_once
from tfcompress.parity.rounded_otherwise import inputs_rounded, rounded_otherwise, usual
from tfcompress.parity.tolerance import OutputParity, Parity, ParityError, compare
from tfcompress.quantization.graph.activation_quantizer import ActivationQuantizer
from tfcompress.runtime.integer_io import held, io_grids, predict
from tfcompress.runtime.runner import Runner
from tfcompress.tracing.trace import Trace

__all__ = ["OutputParity", "Parity", "ParityError", "compare", "verify"]


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
    with weights_once(model):
        expected = _on_generated(model, trace, inputs) if data is None else usual(model, trace, inputs)
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
        ways = rounded_otherwise(model, trace, inputs, deployment)
    if deployment is not None and deployment.rounding:
        ways = itertools.chain(ways, inputs_rounded(model, trace, inputs, deployment.rounding))
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
        return usual(model, trace, inputs)
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


def _shapes(inputs: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in inputs.items()}
