"""From a model over windows of time to one over a few frames, whose state is an input and an output.

Follows the ring buffers of Rybakov et al., "Streaming keyword spotting on mobile devices" (2020), arXiv:2005.06720.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops, tree

from tfcompress.core.arguments import check_count
from tfcompress.core.passthrough import Inserted, innermost
from tfcompress.graph.clone import copy_layer
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.flatten import opened
from tfcompress.graph.inputs.symbolic import input_name
from tfcompress.graph.naming import free, rename_duplicates
from tfcompress.graph.rewrite import Call, calls
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.names import name_of
from tfcompress.streaming.states import States
from tfcompress.streaming.timeline import Timeline
from tfcompress.streaming.windows import TIME, Window, by_frame, cropping_of, window_of, zeros_of

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


class _Steps:
    """Walks through a graph and makes what does a step.

    Args:
        graph: of new layers, which are changed.
        frames: of a step.
        name: of the model.
    """

    def __init__(self, graph: FlatGraph, frames: int, name: str):
        self.graph, self.frames, self.name = graph, frames, name
        self.new: dict[int, Any] = {}
        self.times: dict[int, Timeline | None] = {}
        """By tensors of the old graph. `None`: without frames, one value a step."""
        self.whole: dict[int, int] = {}
        """By tensors without frames: so many first steps of them aren't the whole model's."""
        self.lags: dict[int, int] = {}
        """By tensors without frames: so many frames after the end of its window it comes."""
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.states = States(operation.name for operation in graph.operations)
        self.notes: dict[str, None] = {}
        self.windows: dict[int, Window] = {}
        self.recurrent: dict[int, Any] = {}

    def run(self) -> StepModel:
        """Return the step model."""
        for x in self.graph.inputs:
            self._enter(x)
        listed = calls(self.graph)
        for call in listed:
            if call.inputs and (window := window_of(call.operation, call.inputs[0].shape[TIME])) is not None:
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
        self.times[id(x)] = Timeline(self.frames)

    def _visit(self, call: Call) -> None:
        times = [self.times[id(x)] for x in call.inputs]
        with_frames = [time for time in times if time is not None]
        operation, layer = call.operation, innermost(call.operation)
        if not with_frames:
            self._same(call, None)
        elif len(with_frames) < len(times):
            raise self._refused(call, "which joins what has frames with what has none: repeat that for each frame")
        elif isinstance(layer, keras.layers.RNN):
            self._recurrent(call, with_frames[0])
        elif isinstance(layer, keras.layers.Bidirectional) or getattr(layer, "go_backwards", False):
            raise self._refused(call, "which reads all later frames: put a layer there that goes forwards alone")
        elif (window := self.windows.get(id(call.node))) is not None:
            self._window(call, with_frames[0], window)
        elif (zeros := zeros_of(operation)) is not None:
            self._padding(call, with_frames[0].after_zeros(*zeros))
        elif (cropping := cropping_of(operation)) is not None:
            self._padding(call, with_frames[0].cropped(cropping[0]))
        elif all(by_frame(operation, len(x.shape)) for x in call.inputs):
            self._by_frame(call, with_frames)
        elif name_of(operation) == "reshape" and call.outputs[0].shape[:2] == call.inputs[0].shape[:2]:
            time = with_frames[0]
            self._keep(call, ops.reshape(self._read(call)[0], (-1, time.frames, *call.outputs[0].shape[2:])), time)
        else:
            self._collect(call, with_frames)

    def _read(self, call: Call) -> list[Any]:
        return [self.new[id(x)] for x in call.inputs]

    def _same(
        self, call: Call, time: Timeline | None, inputs: list[Any] | None = None, steps: int = 0, lag: int | None = None
    ) -> None:
        """Call an operation with what there is in the places of its inputs."""
        inputs = inputs or self._read(call)
        given = dict(zip(map(id, call.inputs), inputs, strict=True))

        def fill(x: Any) -> Any:
            return given[id(x)] if keras.utils.is_keras_tensor(x) else x

        arguments, keywords = tree.map_structure(fill, (call.arguments, dict(call.keywords)))
        before = max((self.whole.get(id(x), 0) for x in call.inputs), default=0)
        lags = {self.lags.get(id(x), 0) for x in call.inputs} if lag is None else {lag}
        if len(lags) > 1:
            raise self._refused(call, "which joins what is of windows that end at different frames")
        self._keep(
            call, call.operation(*arguments, **keywords), time, max(before, steps), *(lags if lag is None else [lag])
        )

    def _keep(self, call: Call, made: Any, time: Timeline | None, steps: int = 0, lag: int = 0) -> None:
        for old, new in zip(call.outputs, tree.flatten(made), strict=True):
            self.new[id(old)], self.times[id(old)] = new, time
            self.whole[id(old)], self.lags[id(old)] = steps, lag
            if isinstance(call.operation, Inserted):
                self.states.grids[id(new)] = call.operation

    def _by_frame(self, call: Call, times: list[Timeline]) -> None:
        latest = max(time.delay for time in times)
        inputs = [
            self._later(call, x, time, latest - time.delay) for x, time in zip(self._read(call), times, strict=True)
        ]
        moved = [time.later(latest) for time in times]
        zeros = isinstance(call.operation, Inserted) or traits_of(call.operation).homogeneous
        made = dataclasses.replace(
            moved[0],
            warm_up=max(time.warm_up for time in moved),
            zeros=moved[0].zeros if zeros and len(moved) == 1 else 0,
            padded=any(time.padded for time in moved),
        )
        if len({time.frames for time in times}) > 1:
            raise self._refused(call, "whose inputs have different numbers of frames in a step")
        self._same(call, made, inputs)

    def _later(self, call: Call, x: Any, time: Timeline, frames: int) -> Any:
        """Return a tensor held back by some frames."""
        if not frames:
            return x
        joined = self.states.before(call.operation.name, x, frames)
        return self.states.on_grid(joined[:, : time.frames], x)

    def _window(self, call: Call, time: Timeline, window: Window) -> None:
        operation, layer = call.operation, innermost(call.operation)
        if time.frames % window.stride:
            raise self._refused(
                call,
                f"which makes one frame of {window.stride}, while a step has {time.frames} there: take frames="
                f"{self.frames * window.stride}, or another multiple",
            )
        (x,) = self._read(call)
        pooling = traits_of(operation).channels == "local"
        if layer.padding == "same":
            x = self._padded_beside(call, x, pooling)
        padded = time.after_zeros(window.before, window.behind)
        padded = padded.changed if pooling and window.before else padded
        kept = padded.kept(window.extent, window.stride)
        if kept:
            x = self.states.before(call.operation.name, x, kept)
        layer.padding = "valid"
        self._same(call, padded.window(window.extent, window.stride), [x])

    def _padded_beside(self, call: Call, x: Any, pooling: bool) -> Any:
        """Put the zeros of "same" along the axes that aren't time."""
        layer = innermost(call.operation)
        sizes = layer.pool_size if pooling else layer.kernel_size
        if isinstance(sizes, int) or len(sizes) == 1:
            return x
        dilation = getattr(layer, "dilation_rate", (1, 1))[1]
        extent = (sizes[1] - 1) * dilation + 1
        rest = x.shape[2] % layer.strides[1] or layer.strides[1]
        total = max(extent - rest, 0)
        if total and pooling:
            raise self._refused(call, "which is padded ('same') along another axis than time: pool without padding")
        if not total:
            return x
        sides = ((0, 0), (total // 2, total - total // 2))
        padding = keras.layers.ZeroPadding2D(sides, name=self.states.name(call.operation.name, "pad"))
        return self.states.on_grid(padding(x), x)

    def _padding(self, call: Call, time: Timeline) -> None:
        """Leave out the zeros or the cropping along time, which states stand for."""
        layer, (x,) = innermost(call.operation), self._read(call)
        name = "padding" if hasattr(layer, "padding") else "cropping"
        sizes = getattr(layer, name)
        if isinstance(sizes[0], int) or not any(sizes[1]):
            made = x
        else:
            kind = keras.layers.ZeroPadding2D if name == "padding" else keras.layers.Cropping2D
            made = self.states.on_grid(kind(((0, 0), sizes[1]), name=self.states.name(call.operation.name, name))(x), x)
        self._keep(call, made, time)

    def _recurrent(self, call: Call, time: Timeline) -> None:
        layer = innermost(call.operation)
        if layer.go_backwards:
            raise self._refused(call, "which reads all later frames: put a layer there that goes forwards alone")
        if len(call.inputs) > 1 or layer.return_state:
            raise self._refused(call, "whose state is read or given in the model: leave that to the step model")
        if time.warm_up:
            raise self._refused(
                call,
                f"whose state would begin with the {time.warm_up} frames before the first right one: pad the layers "
                "before it with padding='causal'",
            )
        sequences = layer.return_sequences
        operation = self._with_states(call.operation)
        sizes = layer.state_size
        states = tree.map_structure(lambda size: self.states.new(call.operation.name, (size,), "float32"), sizes)
        given = states if isinstance(states, list | tuple) else [states]
        made, *new = operation(self._read(call)[0], initial_state=list(given))
        for state, value in zip(tree.flatten(states), new, strict=True):
            self.states.give(state, value)
        if sequences:
            self._keep(call, made, time.changed)
        else:
            self.notes[
                f"{call.operation.name!r} has read all frames since the stream began, not those of a window."
            ] = None
            self._keep(call, made[:, -1], None)

    def _with_states(self, operation: Any) -> Any:
        """Return a recurrent layer that returns all frames and its new state: a new one, since this one was called."""
        if id(operation) not in self.recurrent:
            made = self.recurrent[id(operation)] = copy_layer(operation, operation.name)
            layer = innermost(made)
            layer.return_state = layer.return_sequences = True
            layer.stateful = False
        return self.recurrent[id(operation)]

    def _collect(self, call: Call, times: list[Timeline]) -> None:
        """Let an operation that reads all frames of a window have the latest ones."""
        lengths = {x.shape[TIME] for x in call.inputs}
        if None in lengths or len(lengths) > 1:
            raise self._refused(
                call, "which reads all frames: give the model a fixed number of them, shape (frames, ...)"
            )
        (length,) = lengths
        if any(time.padded for time in times):
            raise self._refused(
                call,
                "which reads all frames of a window, where layers before it put zeros around each window that a "
                "stream hasn't: train with padding='valid'",
            )
        latest = max(time.delay for time in times)
        inputs, steps = [], 0
        for x, time in zip(self._read(call), times, strict=True):
            frames = length - time.frames + latest - time.delay
            if frames < 0:
                raise self._refused(call, f"which reads {length} frames, fewer than there are in a step: {time.frames}")
            joined = self.states.before(call.operation.name, x, frames) if frames else x
            inputs.append(self.states.on_grid(joined[:, :length], x) if latest > time.delay else joined)
            steps = max(steps, -(-(time.later(latest).warm_up + length) // time.frames) - 1)
        rate = self.frames // times[0].frames
        self._same(call, None, inputs, steps, rate * (length + latest) - self.graph.inputs[0].shape[TIME])

    def _refused(self, call: Call, why: str) -> ValueError:
        return ValueError(
            f"Expected layers that can go on from step to step. Received: {call.operation.name!r} "
            f"({type(innermost(call.operation)).__name__}), {why}."
        )
