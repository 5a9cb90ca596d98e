"""The states of a step model: inputs that stand before the frames of a step, and outputs for the next one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from tfcompress.core.keras_private import producer
from tfcompress.graph.naming import free
from tfcompress.streaming.windows import TIME


def new_state(name: str) -> str:
    """Return the name of the output that holds the new value of a state.

    >>> new_state("conv_state_1")
    'conv_new_state_1'
    """
    place = name.rindex("state")
    return f"{name[:place]}new_{name[place:]}"


class States:
    """Makes states, and keeps what belongs to them.

    Args:
        taken: names that operations of the model have.

    Attributes:
        inputs: {name: symbolic tensor} of states.
        outputs: {name: symbolic tensor} of new states.
        names: {name of a state: name of its new value}.
        grids: by the identity of a tensor, the quantizer that has put it on its grid.
        batch: samples of each state; `None`: any number.
    """

    def __init__(self, taken: Iterable[str]):
        self.taken = set(taken)
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}
        self.names: dict[str, str] = {}
        self.grids: dict[int, Any] = {}
        self.batch: int | None = None

    def before(self, layer: str, x: Any, frames: int) -> Any:
        """Return a tensor with the last frames of earlier steps before it; the last of both are the new state.

        Args:
            layer: the name of what reads them.
            x: shape (batch, frames of a step, ...).
            frames: of earlier steps.
        """
        state = self.new(layer, (frames, *x.shape[2:]), x.dtype)
        earlier = self.grids[id(x)](state) if id(x) in self.grids else state
        joined = keras.layers.Concatenate(axis=TIME, name=self.name(layer, "frames"), dtype=x.dtype)([earlier, x])
        joined = self.on_grid(joined, x)
        self.give(state, joined[:, -frames:])
        return joined

    def on_grid(self, x: Any, like: Any) -> Any:
        """Return a tensor on the grid of another, where that has one."""
        if id(like) not in self.grids:
            return x
        quantizer = self.grids[id(like)]
        made = quantizer(x)
        self.grids[id(made)] = quantizer
        return made

    def new(self, layer: str, shape: tuple[int | None, ...], dtype: str) -> Any:
        """Return a new state, an input of the step model.

        Args:
            layer: the name of what reads it.
            shape: without the batch.
            dtype: of the state.
        """
        name = self.name(layer, "state")
        while new_state(name) in self.taken:
            name = self.name(layer, "state")
        self.taken.add(new_state(name))
        self.inputs[name] = keras.Input(batch_shape=(self.batch, *shape), dtype=dtype, name=name)
        return self.inputs[name]

    def give(self, state: Any, value: Any) -> None:
        """Let a state have a new value."""
        old = str(producer(state).name)
        name = self.names[old] = new_state(old)
        self.outputs[name] = keras.layers.Identity(name=name, dtype=value.dtype)(value)

    def name(self, layer: str, what: str) -> str:
        """Return a name that nothing has yet."""
        name = free(f"{layer}_{what}", self.taken)
        self.taken.add(name)
        return name
