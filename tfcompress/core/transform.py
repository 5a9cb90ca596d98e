"""Weight transforms: their base class, and the projection of a weight after an optimizer's update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from tfcompress.core.sharding import gathered, lay_like, layout_of, lent, of_first_process, spans_processes

Tensor = Any


class Encoded(Protocol):
    """What a file can store of a weight in place of its values, such as integers with scales."""

    def decode(self) -> np.ndarray:
        """Return the values, float32."""


def decoded(value: np.ndarray | Encoded) -> np.ndarray:
    """Return the values of what `WeightTransform.encode` gives."""
    return value if isinstance(value, np.ndarray) else value.decode()


class WeightTransform:
    """A differentiable map of one weight, with its state in variables of the wrapper.

    A subclass says what `apply` does to the value in every call and what `update` does to the state once
    per training step. It is registered with `keras.saving.register_keras_serializable` and gives its
    constructor's arguments back in `get_config`.
    """

    group: str | None = None
    """Transforms of one group, anywhere in the model, are updated together; `None`: on its own."""

    last = False
    """Whether no other of a weight's transforms comes after it, as none does after rounding to the grid of a file."""

    def build(self, weight: keras.Variable, add_state: Callable[..., keras.Variable]) -> None:
        """Create the state.

        Args:
            weight: The variable that is transformed; its shape is final, its value may not be loaded yet.
            add_state: `add_state(name, shape, dtype, initializer)` makes a non-trainable variable that is
                saved with the model and equal on all replicas; with `trainable=True` one that the optimizer trains;
                with `overwrite_with_gradient=True` a trainable one whose new value is the gradient that
                `apply_in_training` gives to it.
        """

    def apply(self, value: Tensor) -> Tensor:
        """Return what the wrapped layer sees instead of `value` (float, any shape); differentiable."""
        raise NotImplementedError

    def encode(self, value: np.ndarray | Encoded) -> np.ndarray | Encoded:
        """Return what `apply` gives in the form in which a file stores it; by default its values.

        Args:
            value: What the transform before it has encoded; the weight itself, float32, for the first.
        """
        return gathered(self.apply(ops.convert_to_tensor(decoded(value))))

    def apply_in_training(self, value: Tensor, loss_scale: Tensor | None = None) -> Tensor:
        """Return what the layer sees in a training step: the same, but its gradient may be of use to the transform.

        Args:
            value: As for `apply`.
            loss_scale: What the optimizer multiplies the loss by, where that is known; `None`: nothing.
        """
        return self.apply(value)

    def project(self, value: Tensor) -> Tensor:
        """Return what the weight becomes after each optimizer update (TensorFlow); unchanged by default."""
        return value

    @classmethod
    def update(cls, members: Sequence[tuple[WeightTransform, Callable[[], Tensor]]], step: Tensor) -> None:
        """Update the state of all members of one group, once per training step.

        Args:
            members: Each transform with a function that returns the value that reaches it (float32, before the
                transform). Called where it is needed, such as in the branch of a condition, it costs nothing elsewhere.
            step: int32 scalar; 0 in the first training step.
        """

    @classmethod
    def remarks(cls, members: Sequence[tuple[str, WeightTransform, int]]) -> list[str]:
        """Return what the user should know of the state that transforms are in when they are taken away.

        Args:
            members: The name of the layer, the transform and the number of training steps that it has gone through,
                of all transforms of this class in a model.
        """
        return []

    def brief(self) -> str:
        """Return what was asked for, in few words: where layers have configs of their own, `tfc.summary` shows it."""
        return ""

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WeightTransform:
        """Make a transform, without its state, from `get_config`'s result."""
        return cls(**config)


class Projection(keras.constraints.Constraint):
    """A variable constraint: the user's own one, then the transforms' projections."""

    def __init__(self, constraint: Callable[[Tensor], Tensor] | None, chain: Sequence[WeightTransform]):
        self.constraint = constraint
        self.chain = chain

    def __call__(self, value: Tensor) -> Tensor:
        """Return what the weight becomes."""
        value = ops.convert_to_tensor(value)
        if self.constraint is not None:
            value = self.constraint(value)
        for transform in self.chain:
            value = transform.project(value)
        return value


def remove_projection(weight: keras.Variable) -> None:
    """Give a weight the constraint back that it had before it was wrapped."""
    if isinstance(weight.constraint, Projection):
        weight.constraint = weight.constraint.constraint


def read(variable: keras.Variable) -> np.ndarray:
    """Return a variable's value, also of one that is mirrored, or in parts, on several devices.

    On JAX a value in parts on several machines is gathered: all processes have to read it.
    """
    return gathered(_one_copy(variable))


def look(variable: keras.Variable) -> np.ndarray:
    """Return what `read` does, to be looked at alone: without a copy where the backend lends its memory."""
    return lent(_one_copy(variable))


def _one_copy(variable: keras.Variable) -> Tensor:
    copies = getattr(variable.value, "values", None)
    return copies[0] if isinstance(copies, tuple) else ops.convert_to_tensor(variable.value)


def carry(old: keras.Variable, new: keras.Variable) -> None:
    """Give a variable the value of one that it is a copy of, and where that is on a mesh, its layout."""
    lay_like(old, new)
    new.assign(carried(old, new))


def put(variable: keras.Variable, value: Any) -> None:
    """Assign what was found from data; to a variable of several processes what the first of them found.

    All of these have to call it.
    """
    variable.assign(of_first_process(np.asarray(value)) if spans_processes(variable) else value)


def carried(old: keras.Variable, new: keras.Variable) -> Tensor:
    """Return the value of a variable, to be assigned to one that may be on other devices.

    One that goes to devices of several processes is that of the first process.
    """
    if layout_of(old) is not None and layout_of(new) is None:
        return read(old)  # JAX would leave it on the devices of the old one
    if spans_processes(new) and layout_of(old) is None:
        return of_first_process(read(old))
    return ops.copy(old.value)  # on JAX, `fit` deletes arrays that it has replaced
