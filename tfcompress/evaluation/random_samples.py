"""Random samples for what can be run: a Keras model or a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.quiet_output import quiet
from tfcompress.data.named_inputs import TensorInfo
from tfcompress.evaluation.open_predictor import KerasPredictor
from tfcompress.evaluation.predictor import Arrays, Predictor
from tfcompress.graph.inputs.declared import given_shapes
from tfcompress.graph.inputs.sizes import NoSizeFits, hints_of
from tfcompress.graph.inputs.symbolic import graph_of, has_graph
from tfcompress.graph.sample_inputs.contents import flat_contents, vocabulary
from tfcompress.graph.sample_inputs.input_paths import NOISE, Content
from tfcompress.graph.sample_inputs.samples import draw, sample_shapes
from tfcompress.tracing.signature import read_signature


def samples_for(predictor: Predictor, count: int) -> Arrays:
    """Return random samples that a model or a file runs on.

    Args:
        predictor: of it.
        count: samples, where the batch is free.

    Returns:
        {input name: array}.

    Raises:
        ValueError: the inputs of a subclassed model are unknown, or it runs with no size that was tried.
    """
    model = predictor.model if isinstance(predictor, KerasPredictor) else None
    specs = dict(predictor.input_specs or _recorded(predictor, model))
    known: list[Content] = [NOISE] * len(specs)
    if model is not None and has_graph(model):
        structure = graph_of(model).input
        order = [x.name for x in keras.tree.flatten(structure)]
        by_name = dict(zip(order, flat_contents(model, structure), strict=True))
        known = [by_name[name] for name in specs]
    words = vocabulary(model) if model is not None else 1

    def make(sizes: Sequence[tuple[int, ...]]) -> Arrays:
        random = np.random.default_rng(0)
        drawn = zip(specs.items(), sizes, known, strict=True)
        return {name: draw(size, spec.dtype, content, random, words) for (name, spec), size, content in drawn}

    def run(sizes: Sequence[tuple[int, ...]]) -> list[Any]:
        with quiet():  # a runtime prints what it can't take
            return list(predictor.run(make(sizes)).values())

    shapes = given_shapes(list(specs), [spec.shape for spec in specs.values()])
    hints = hints_of(model, shapes) if model is not None else ()
    try:
        return make(sample_shapes(shapes, run, count, hints, strict=True))
    except NoSizeFits as error:
        raise ValueError(
            f"Expected {predictor.label} to run with one of {error.tried} sizes of its free dimensions. Received: "
            f"{error} Pass x=, some samples to run."
        ) from error.__cause__


def _recorded(predictor: Predictor, model: keras.Model | None) -> dict[str, TensorInfo]:
    """Return the inputs of a subclassed model, as `KerasPredictor` names them."""
    try:
        assert model is not None
        signature = read_signature(model)
    except ValueError as error:
        raise ValueError(
            f"Expected a model that tells its inputs, to make some for {predictor.label}. Received: {error} "
            "Pass x=, some samples to run."
        ) from error
    specs = {name: TensorInfo((None, *spec.shape[1:]), spec.dtype) for name, spec in signature.inputs.items()}
    if len(specs) == 1:
        return {"": next(iter(specs.values()))}
    arguments, named = signature.pack(list(specs))
    predictor.structure = arguments[0] if arguments else named
    return specs
