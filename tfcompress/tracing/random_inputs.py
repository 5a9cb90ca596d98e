"""The random numbers that inference draws as inputs of a file: its user draws them."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from tfcompress.data.named_inputs import TensorInfo
from tfcompress.graph.inputs.sizes import batch_of
from tfcompress.tracing.noise_signature import NoiseSignature
from tfcompress.tracing.random_draws import find_draws, given_graph
from tfcompress.tracing.random_operations import drawing
from tfcompress.tracing.recurrent_state import first_samples
from tfcompress.tracing.signature import Signature
from tfcompress.tracing.trace import Trace, trace

PROBE = 251
"""A number of samples that no other size of a model is likely to be: a draw of so many rows has one for each."""


def check_noise(random: Any, stateful: Any, inference_io: str) -> None:
    """Refuse what doesn't go with `random`.

    Raises:
        ValueError: it is no such value, or states or integers are asked for beside it.
    """
    if random is None:
        return
    if not isinstance(random, str) or random != "inputs":
        raise ValueError(f"Expected random to be 'inputs' or None. Received: random={random!r}.")
    if stateful is not None or inference_io != "float32":
        received = f"stateful={stateful!r}" if stateful is not None else f"inference_io={inference_io!r}"
        raise ValueError(
            "Expected neither stateful= nor inference_io= beside random='inputs': what is drawn is float numbers, and "
            f"depends on no run before. Received: {received}. Leave one of them out."
        )


def with_noise(model: keras.Model, traced: Trace, kind: str, data: Any) -> tuple[Trace, dict[str, np.ndarray] | None]:
    """Return a trace with draws as inputs (see `draws_as_inputs`), and data to compare on; None: to be made.

    Args:
        model: That was traced.
        traced: Its trace.
        kind: As for `trace`.
        data: As `export` takes it in `verify`.
    """
    made = draws_as_inputs(model, traced, kind)
    signature = made.signature
    if isinstance(data, bool) or not isinstance(signature, NoiseSignature):
        return made, None
    return made, signature.fitted(model, first_samples(data, signature.own_inputs))


def draws_as_inputs(model: keras.Model, traced: Trace, kind: str | None = None) -> Trace:
    """Return a trace in which what is drawn at random is an input.

    Args:
        model: That was traced.
        traced: Its trace.
        kind: As for `trace`.

    Raises:
        ValueError: nothing is drawn, it is drawn in another way than `KINDS`, in a loop, or not one row for each sample
            of a batch of several.
    """
    own = traced.signature
    draws = find_draws(traced.concrete, traced.inputs, traced.layers, traced.name)
    if not draws:
        raise ValueError(
            "Expected a model that draws random numbers in inference, for random='inputs'. Received: "
            f"{traced.name!r}, which draws none. Leave random out."
        )
    batch = batch_of(spec.shape for spec in traced.inputs.values())
    rows = _rows(model, own, kind)
    here: dict[str, TensorInfo] = {}
    declared: dict[str, TensorInfo] = {}
    for name, draw in draws.items():
        shape = draw.shape
        if rows.get(name) == PROBE:  # one for each sample
            here[name], declared[name] = (TensorInfo((size, *shape[1:]), "float32") for size in (batch, None))
            continue
        if batch == 1 and shape[:1] != (1,):
            shape = (1, *shape)
        if batch is None or shape[:1] != (batch,) or (batch > 1 and name in rows):
            raise ValueError(
                f"Expected random numbers of which each sample has its own row, for random='inputs'. Received: layer "
                f"{draw.layer!r} of {traced.name!r}, which draws {draw.kind} of shape {draw.shape} for all samples of "
                "a batch. Export with batch_size=1: each run then takes a sample and its draw."
            )
        here[name] = declared[name] = TensorInfo(shape, "float32")
    concrete = given_graph(traced.concrete, len(traced.inputs), {n: (draws[n], here[n].shape) for n in draws})
    kinds = {name: draw.kind for name, draw in draws.items()}
    inputs = {**own.inputs, **declared}
    signature = NoiseSignature(inputs, own.output_names, own.declared, own.pack, own=own, kinds=kinds)
    return dataclasses.replace(traced, concrete=concrete, inputs={**traced.inputs, **here}, signature=signature)


def noise_signature(model: keras.Model, batch_size: int | None) -> NoiseSignature | None:
    """Return how a file of `model` is called that takes random numbers; None where the model draws none.

    Args:
        model: built.
        batch_size: of the file.

    Raises:
        ValueError: as `draws_as_inputs`.
    """
    traced = trace(model, batch_size)
    if not drawing(traced.concrete, len(traced.inputs)):
        return None
    signature = draws_as_inputs(model, traced).signature
    assert isinstance(signature, NoiseSignature)
    return signature


def samples_at_once(signature: Signature) -> int | None:
    """Return how many samples a model is to be called with, where what it draws is for that many; None: any number."""
    if not isinstance(signature, NoiseSignature):
        return None
    return batch_of(spec.shape for spec in signature.inputs.values())


def _rows(model: keras.Model, signature: Signature, kind: str | None) -> dict[str, int | None]:
    """Return how many rows a model draws for `PROBE` samples; nothing for one that doesn't take as many."""
    if batch_of(spec.shape for spec in signature.inputs.values()) is not None:
        return {}
    try:
        traced = trace(model, PROBE, kind, signature)
    except ValueError:
        return {}
    draws = find_draws(traced.concrete, traced.inputs, traced.layers, traced.name)
    return {name: draw.shape[0] for name, draw in draws.items() if draw.shape}
