"""From a model over windows of time to one over a few frames, whose state is an input and an output.

Follows the ring buffers of Rybakov et al., "Streaming keyword spotting on mobile devices" (2020), arXiv:2005.06720.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops, tree

from tfcompress.core.arguments import check_count
from tfcompress.core.keras_private import takes_mask
from tfcompress.core.passthrough import Inserted, innermost
from tfcompress.graph.clone import has_mask
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.flatten import opened
from tfcompress.graph.inputs.symbolic import input_name
from tfcompress.graph.naming import free, rename_duplicates
from tfcompress.graph.rewrite import Call, calls
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.names import name_of
from tfcompress.streaming.local_layers import padding_in_step, windows_in_step
from tfcompress.streaming.recurrent_layers import BACKWARDS, recurrent_in_step
from tfcompress.streaming.timeline import Timeline
from tfcompress.streaming.walk import Walk
from tfcompress.streaming.windows import (
    TIME,
    Window,
    by_frame,
    cropping_of,
    has_time,
    keeps_frames,
    window_of,
    zeros_of,
)

LARGEST = 1 << 20
"""Frames of a step."""


@dataclasses.dataclass(frozen=True)
class StepModel:
    """A model over a few frames at a time.

    Attributes:
        model: called with a dict of inputs and states, it returns a dict of outputs and new states.
        frames: that each step takes.
        states: {name of the input with a state: name of the output that is given there in the next step}. Zeros begin.
        delay: {name of an output: so many of its frames later than the whole model's it comes}; of an output without
            frames, so many frames of the input after the last one of its window. Below 0: zeros at the beginning, or
            frames at the end of the window that nothing reads, aren't waited for.
        warm_up: {name of an output: so many of its first frames aren't the whole model's}; of an output without
            frames, so many first steps.
        notes: what is to be known of the model's outputs.
    """

    model: keras.Model
    frames: int
    states: dict[str, str]
    delay: dict[str, int]
    warm_up: dict[str, int]
    notes: tuple[str, ...] = ()


def stepwise(model: keras.Model, frames: int = 1) -> StepModel:
    """Make of a model over windows of time a step function: a few frames in, a few out, the state beside them.

    What convolutions and poolings read of earlier frames, and the states of recurrent layers, become inputs and
    outputs: after the first frames, the outputs are the whole model's on the signal so far. What comes back is a model
    as any other: it is exported, and run with `tfcompress.Stream`. A quantized model stays quantized, and its states
    are on the grids of what they are states of.

    Args:
        model: its inputs have time behind the batch, shape (batch, frames, ...). Convolutions may be padded "causal",
            "valid", or "same", which makes outputs come later. A layer that reads all frames of a window, such as
            `GlobalAveragePooling1D`, `Flatten` or attention, makes one output a step, of the latest window.
        frames: that each step takes; a multiple of all strides.

    Returns:
        The step model, and what is to be known to run it.

    Raises:
        ValueError: a layer needs all later frames (a Bidirectional), or something else that no step can have; the
            message names it.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((None, 2)), keras.layers.Conv1D(4, 3, padding="causal", name="conv")])
    >>> step = stepwise(model)
    >>> step.states, step.delay, step.warm_up
    ({'conv_state': 'conv_new_state'}, {'conv': 0}, {'conv': 0})
    """
    check_count("frames", frames, most=LARGEST)
    graph = opened(model)
    return _Steps(graph, frames, model.name).run()


class _Steps(Walk):
    """Walks through a graph and makes what does a step.

    Args:
        graph: of new layers, which are changed.
        frames: of a step.
        name: of the model.
    """

    def __init__(self, graph: FlatGraph, frames: int, name: str):
        super().__init__(graph, frames)
        self.name = name
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.windows: dict[int, Window] = {}
        self.recurrent: dict[int, Any] = {}

    def run(self) -> StepModel:
        """Return the step model."""
        for x in self.graph.inputs:
            self._enter(x)
        listed = calls(self.graph)
        for call in listed:
            if call.inputs and (window := window_of(call.operation, call.inputs[0].shape)) is not None:
                self.windows[id(call.node)] = window
        for call in listed:
            self._visit(call)
        delay, warm_up = {}, {}
        for x, wanted in zip(self.graph.outputs, self.graph.output_names, strict=True):
            name = free(wanted, {*self.outputs, *self.states.outputs})
            self.outputs[name], time = self.new[id(x)], self.times[id(x)]
            delay[name] = self.lags[id(x)] if time is None else time.delay
            warm_up[name] = self.whole[id(x)] if time is None else time.warm_up
        outputs = {**self.outputs, **self.states.outputs}
        rename_duplicates(outputs)
        made = keras.Model({**self.inputs, **self.states.inputs}, outputs, name=self.name)
        return StepModel(made, self.frames, self.states.names, delay, warm_up, tuple(self.notes))

    def _enter(self, x: Any) -> None:
        name = input_name(x)
        if len(x.shape) < 2 or (x.shape[TIME] is not None and x.shape[TIME] < self.frames):
            raise ValueError(
                f"Expected inputs with at least {self.frames} frames behind the batch, (batch, frames, ...). Received: "
                f"input {name!r} of shape {tuple(x.shape)}."
            )
        self.states.batch = x.shape[0]
        shape = (x.shape[0], self.frames, *x.shape[2:])
        self.new[id(x)] = self.inputs[name] = keras.Input(batch_shape=shape, dtype=x.dtype, name=name)
        self.times[id(x)] = Timeline(self.frames, length=x.shape[TIME], window=x.shape[TIME])

    def _visit(self, call: Call) -> None:
        times = [self.times[id(x)] for x in call.inputs]
        with_frames = [time for time in times if time is not None]
        operation, layer = call.operation, innermost(call.operation)
        if not with_frames:
            self.same(call, None)
            return
        self._check_mask(call)
        time = with_frames[0]
        if isinstance(layer, keras.layers.Bidirectional):
            raise self.refused(call, BACKWARDS)
        if isinstance(layer, keras.layers.RNN):
            recurrent_in_step(self, call, time, self.recurrent)
        elif len(with_frames) < len(times):
            self._collect(call, times)
        elif (window := self.windows.get(id(call.node))) is not None:
            windows_in_step(self, call, time, window)
        elif (zeros := zeros_of(operation)) is not None:
            padding_in_step(self, call, time.after_zeros(*zeros))
        elif (cropping := cropping_of(operation)) is not None:
            padding_in_step(self, call, time.cropped(*cropping))
        elif all(by_frame(operation, len(x.shape)) for x in call.inputs):
            self._by_frame(call, with_frames)
        elif name_of(operation) == "reshape" and keeps_frames(call.inputs[0].shape, call.outputs[0].shape):
            made = ops.reshape(self.read(call)[0], (-1, time.frames, *call.outputs[0].shape[2:]))
            self.keep(call, made, time)
        else:
            self._collect(call, times)

    def _check_mask(self, call: Call) -> None:
        layer = innermost(call.operation)
        if isinstance(layer, keras.layers.Masking):
            raise self.refused(call, "which makes a mask, and masks aren't carried from step to step: leave it out")
        if isinstance(layer, keras.layers.Layer) and takes_mask(layer) and has_mask(call.inputs):
            raise self.refused(
                call,
                "which gets a Keras mask, and masks aren't carried from step to step: leave mask_zero and Masking out "
                "in front of it",
            )

    def _by_frame(self, call: Call, times: list[Timeline]) -> None:
        self._check_constants(call)
        latest = max(time.delay for time in times)
        inputs = [
            self.later(call, x, time, latest - time.delay) for x, time in zip(self.read(call), times, strict=True)
        ]
        moved = [time.later(latest) for time in times]
        zeros = isinstance(call.operation, Inserted) or traits_of(call.operation).homogeneous
        windows = {time.window for time in times}
        made = dataclasses.replace(
            moved[0],
            warm_up=max(time.warm_up for time in moved),
            zeros=moved[0].zeros if zeros and len(moved) == 1 else 0,
            padded=any(time.padded for time in moved),
            length=next((time.length for time in times if time.length is not None), None),
            window=windows.pop() if len(windows) == 1 else None,
            endless=any(time.endless for time in times),
            other_end=any(time.other_end for time in times),
        )
        if len({time.frames for time in times}) > 1:
            raise self.refused(call, "whose inputs have different numbers of frames in a step")
        self.same(call, made, inputs)

    def _check_constants(self, call: Call) -> None:
        """Raise ValueError where what is joined with frames isn't the same for each of them."""
        shapes = [tuple(x.shape) for x in call.inputs]
        lengths = {shape[TIME] for shape in shapes} - {None}
        if traits_of(call.operation).channels == "nary" and (len(set(map(len, shapes))) > 1 or len(lengths) > 1):
            raise self.refused(call, "whose inputs have different numbers of dimensions or frames: give all the same")
        given = tree.flatten((call.arguments, dict(call.keywords)))
        constants = [x for x in given if hasattr(x, "shape") and not keras.utils.is_keras_tensor(x)]
        if not isinstance(call.operation, keras.layers.Layer) and any(has_time(x, len(shapes[0])) for x in constants):
            raise self.refused(
                call, "which joins frames with a constant that has a value for each frame of a window: leave that out"
            )

    def _collect(self, call: Call, times: list[Timeline | None]) -> None:
        """Let an operation that reads all frames of a window have the latest ones."""
        there = [time for time in times if time is not None]
        if any(time.length is None for time in there):
            raise self.refused(
                call, "which reads all frames: give the model a fixed number of them, shape (frames, ...)"
            )
        if any(time.endless for time in there):
            raise self.refused(
                call,
                "which reads all frames of a window, behind a recurrent layer, whose state goes on over windows in a "
                "stream: use its last step (return_sequences=False) alone",
            )
        if any(time.padded for time in there):
            raise self.refused(
                call,
                "which reads all frames of a window, where layers before it put zeros around each window that a "
                "stream hasn't: train with padding='valid'",
            )
        if any(time.window is None for time in there):
            raise self.refused(call, "which reads all frames of what joins inputs with different numbers of them")
        lags = [
            self.lags[id(x)] if time is None else self._lag(time) for x, time in zip(call.inputs, times, strict=True)
        ]
        inputs, steps = [], 0
        for x, time, lag in zip(self.read(call), times, lags, strict=True):
            if time is None:
                inputs.append(x)
                continue
            later, rest = divmod(max(lags) - lag, self.frames // time.frames)
            if rest:
                raise self.refused(call, "which joins what is of windows that end at different frames")
            length = time.length or 0
            frames = length - time.frames + later
            if frames < 0:
                raise self.refused(call, f"which reads {length} frames, fewer than there are in a step: {time.frames}")
            joined = self.states.before(call.operation.name, x, frames) if frames else x
            inputs.append(self.states.on_grid(joined[:, :length], x) if later else joined)
            steps = max(steps, -(-(time.later(time.delay + later).warm_up + length) // time.frames) - 1)
        self.same(call, None, inputs, steps, max(lags))

    def _lag(self, time: Timeline) -> int:
        """Return how many frames after the end of a window, of a fixed length, its last frame comes."""
        return self.frames // time.frames * ((time.length or 0) + time.delay) - (time.window or 0)
