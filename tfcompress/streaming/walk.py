"""What a walk through a graph, from call to call, knows of the step model that it makes."""

from __future__ import annotations

from typing import Any

import keras
from keras import tree

from tfcompress.core.passthrough import Inserted, innermost
from tfcompress.graph.flat_graph import FlatGraph
from tfcompress.graph.rewrite import Call
from tfcompress.streaming.states import States
from tfcompress.streaming.timeline import Timeline
from tfcompress.streaming.windows import TIME


class Walk:
    """Holds what was made of the tensors of a graph.

    Args:
        graph: of new layers, which are changed.
        frames: of a step.
    """

    def __init__(self, graph: FlatGraph, frames: int):
        self.graph, self.frames = graph, frames
        self.new: dict[int, Any] = {}
        self.times: dict[int, Timeline | None] = {}
        """By tensors of the old graph. `None`: without frames, one value a step."""
        self.whole: dict[int, int] = {}
        """By tensors without frames: so many first steps of them aren't the whole model's."""
        self.lags: dict[int, int] = {}
        """By tensors without frames: so many frames after the end of its window it comes."""
        self.states = States(operation.name for operation in graph.operations)
        self.notes: dict[str, None] = {}

    def read(self, call: Call) -> list[Any]:
        """Return what was made of a call's inputs."""
        return [self.new[id(x)] for x in call.inputs]

    def same(
        self, call: Call, time: Timeline | None, inputs: list[Any] | None = None, steps: int = 0, lag: int | None = None
    ) -> None:
        """Call an operation with what there is in the places of its inputs.

        Args:
            call: of the old graph.
            time: of what it makes.
            inputs: in the places of its inputs; `None`: what was made of them.
            steps: so many first ones aren't the whole model's, of outputs without frames.
            lag: frames after the end of the window, of outputs without frames; `None`: that of the inputs.
        """
        inputs = inputs or self.read(call)
        given = dict(zip(map(id, call.inputs), inputs, strict=True))

        def fill(x: Any) -> Any:
            return given[id(x)] if keras.utils.is_keras_tensor(x) else x

        arguments, keywords = tree.map_structure(fill, (call.arguments, dict(call.keywords)))
        before = max((self.whole.get(id(x), 0) for x in call.inputs), default=0)
        lags = {self.lags[id(x)] for x in call.inputs if self.times[id(x)] is None}
        lags = lags if lag is None else lags | {lag}
        if len(lags) > 1:
            raise self.refused(call, "which joins what is of windows that end at different frames")
        self.keep(call, call.operation(*arguments, **keywords), time, max(before, steps), *lags)

    def keep(self, call: Call, made: Any, time: Timeline | None, steps: int = 0, lag: int = 0) -> None:
        """Let what was made stand for the outputs of a call; raise ValueError unless it has the frames of a step."""
        for old, new in zip(call.outputs, tree.flatten(made), strict=True):
            if time is not None and (len(new.shape) <= TIME or new.shape[TIME] not in (time.frames, None)):
                raise self.refused(
                    call,
                    f"which makes shape {tuple(new.shape)} of a step where {time.frames} frames were expected behind "
                    "the batch",
                )
            self.new[id(old)], self.times[id(old)] = new, time
            self.whole[id(old)], self.lags[id(old)] = steps, lag
            if isinstance(call.operation, Inserted):
                self.states.grids[id(new)] = call.operation

    def later(self, call: Call, x: Any, time: Timeline, frames: int) -> Any:
        """Return a tensor held back by some frames."""
        if not frames:
            return x
        joined = self.states.before(call.operation.name, x, frames)
        return self.states.on_grid(joined[:, : time.frames], x)

    def refused(self, call: Call, why: str) -> ValueError:
        """Return what is raised for a call that no step can have."""
        return ValueError(
            f"Expected layers that can go on from step to step. Received: {call.operation.name!r} "
            f"({type(innermost(call.operation)).__name__}), {why}."
        )
