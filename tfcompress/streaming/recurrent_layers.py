"""Recurrent layers in a step: their states are inputs and outputs, and go on since the stream began."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from tfcompress.core.passthrough import innermost
from tfcompress.graph.clone import copy_layer
from tfcompress.graph.rewrite import Call
from tfcompress.streaming.timeline import Timeline
from tfcompress.streaming.walk import Walk

BACKWARDS = "which reads all later frames: put a layer there that goes forwards alone"


def recurrent_in_step(walk: Walk, call: Call, time: Timeline, copies: dict[int, Any]) -> None:
    """Let a recurrent layer go on with the state of the step before.

    Args:
        walk: where the step model is made.
        call: of the layer.
        time: of what it reads.
        copies: by the identity of a layer, the one that stands for it; more are put there.

    Raises:
        ValueError: its state can't be an input and an output, or would begin with other frames than the whole model's.
    """
    layer, name = innermost(call.operation), call.operation.name
    why = _why_not(layer, call) or _why_not_at(layer, time)
    if why is not None:
        raise walk.refused(call, why)
    operation = _with_states(call.operation, copies)
    sizes = layer.state_size
    states = [walk.states.new(name, (size,), "float32") for size in ([sizes] if isinstance(sizes, int) else sizes)]
    made, *new = operation(walk.read(call)[0], initial_state=states)
    for state, value in zip(states, new, strict=True):
        walk.states.give(state, value)
    if layer.return_sequences:
        walk.keep(call, made, dataclasses.replace(time.changed, endless=True))
    else:
        walk.notes[f"{name!r} has read all frames since the stream began, not those of a window."] = None
        walk.keep(call, made[:, -1], None)


def _why_not(layer: Any, call: Call) -> str | None:
    if layer.go_backwards:
        return BACKWARDS
    if len(call.inputs) > 1 or layer.return_state:
        return "whose state is read or given in the model: leave that to the step model"
    sizes = layer.state_size
    vectors = all(isinstance(size, int) for size in ([sizes] if isinstance(sizes, int) else sizes))
    if isinstance(layer.cell, keras.layers.StackedRNNCells):
        return "which has several cells: put a layer for each, behind each other"
    if not vectors or len(call.inputs[0].shape) != 3:
        return "whose state isn't made of vectors: LSTM, GRU, SimpleRNN and RNN with such a cell can go on"
    return None


def _why_not_at(layer: Any, time: Timeline) -> str | None:
    """Return why a state wouldn't be the whole model's where its frames lie so; `None` if it would."""
    if time.warm_up:
        return (
            f"whose state would begin with the {time.warm_up} frames before the first right one: pad the layers before "
            "it with padding='causal'"
        )
    if time.delay or time.zeros:
        return (
            "which begins with zeros that a layer before it puts before the frames, while a stream begins with its "
            "first frame: put no more zeros there than the layers between read"
        )
    if time.other_end and not layer.return_sequences:
        return (
            "whose last frame isn't the last one of its window: leave out the zeros or the cropping at the end before "
            "it"
        )
    return None


def _with_states(operation: Any, copies: dict[int, Any]) -> Any:
    """Return a recurrent layer that returns all frames and its new state: a new one, since this one was called."""
    if id(operation) not in copies:
        made = copies[id(operation)] = copy_layer(operation, operation.name)
        layer = innermost(made)
        layer.return_state = layer.return_sequences = True
        layer.stateful = False
    return copies[id(operation)]
