"""What is done to each step of a sequence, done to all steps at once: they become samples, and steps again."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from tfcompress.core.keras_private import flatten_layers, takes_mask, takes_training
from tfcompress.core.locking import exclusive
from tfcompress.graph.clone import has_mask

Tensor = Any


@keras.saving.register_keras_serializable(package="tfcompress")
class StepsToSamples(keras.layers.Layer):
    """Makes each step of each sequence a sample: (batch, steps, ...) becomes (batch * steps, ...).

    Example:

    >>> StepsToSamples()(ops.zeros((2, 3, 5))).shape
    TensorShape([6, 5])
    """

    def call(self, inputs: Tensor) -> Tensor:
        """Return the steps as samples."""
        return ops.reshape(inputs, (-1, *_sizes(inputs)[2:]))

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Return the shape and dtype of the samples."""
        batch, steps, *rest = inputs.shape
        return keras.KerasTensor((batch and steps and batch * steps, *rest), inputs.dtype)


@keras.saving.register_keras_serializable(package="tfcompress")
class SamplesToSteps(keras.layers.Layer):
    """Makes samples the steps of sequences again: (batch * steps, ...) becomes (batch, steps, ...).

    Args:
        steps: In each sequence; `None`: as many as the second argument of the call says.

    Example:

    >>> SamplesToSteps(3)(ops.zeros((6, 5))).shape
    TensorShape([2, 3, 5])
    """

    def __init__(self, steps: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.steps = steps

    def call(self, inputs: Tensor, steps: Tensor | None = None) -> Tensor:
        """Return the samples as steps."""
        return ops.reshape(inputs, (-1, self.steps if self.steps is not None else steps, *_sizes(inputs)[1:]))

    def compute_output_spec(self, inputs: Any, steps: Any = None) -> keras.KerasTensor:
        """Return the shape and dtype of the sequences."""
        batch, *rest = inputs.shape
        return keras.KerasTensor((batch and self.steps and batch // self.steps, self.steps, *rest), inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "steps": self.steps}


@keras.saving.register_keras_serializable(package="tfcompress")
class CountSteps(keras.layers.Layer):
    """Returns the number of steps of sequences, (batch, steps, ...), as a whole number.

    Example:

    >>> int(CountSteps()(ops.zeros((2, 3, 5))))
    3
    """

    def call(self, inputs: Tensor) -> Tensor:
        """Return the number of steps."""
        return ops.cast(ops.shape(inputs)[1], "int32")

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Return the shape and dtype of the number."""
        return keras.KerasTensor((), "int32")


STEPPING = (StepsToSamples, SamplesToSteps, CountSteps)
"""What stands around the layer of a `TimeDistributed` that was opened: it moves values, and computes nothing."""


def _sizes(x: Tensor) -> list[Any]:
    """Return the sizes of a tensor, as numbers where they are known."""
    return [size if size is not None else ops.shape(x)[axis] for axis, size in enumerate(x.shape)]


def why_not_together(layer: keras.layers.Layer, arguments: Any) -> str | None:
    """Return why the steps of a `TimeDistributed` can't be computed as samples; `None` if they can.

    Args:
        layer: A `TimeDistributed`.
        arguments: What it is called with.
    """
    tensors = [x for x in keras.tree.flatten(arguments) if keras.utils.is_keras_tensor(x)]
    if has_mask(arguments) or len(tensors) != 1:
        return "it gets a Keras mask; leave mask_zero and Masking out in front of it"
    if layer.activity_regularizer is not None:
        return "it has an activity regularizer"
    if any(getattr(part, "stateful", False) for part in flatten_layers(layer.layer)):
        return "it holds a recurrent layer that is stateful"
    return None


def at_once(layer: keras.layers.Layer, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None) -> Any:
    """Return what a `TimeDistributed` computes, in inference, all steps of a free number as samples of one batch.

    Args:
        layer: The `TimeDistributed`; of layers within it that mix samples this is something else.
        inputs: Sequences.
        training: As it is called.
        mask: As it is called.
    """
    batch, steps, *rest = _sizes(inputs)
    more: dict[str, Any] = {}
    if takes_mask(layer.layer) and mask is not None:
        more["mask"] = ops.reshape(mask, (-1, *_sizes(mask)[2:]))
    if takes_training(layer.layer):
        more["training"] = training
    outputs = layer.layer.call(ops.reshape(inputs, (-1, *rest)), **more)
    lead = (batch, -1) if isinstance(batch, int) else (-1, steps)
    return ops.reshape(outputs, (*lead, *_sizes(outputs)[1:]))


@contextlib.contextmanager
def steps_at_once(model: keras.Model) -> Iterator[None]:
    """Let each `TimeDistributed` of a model compute a free number of steps at once, for the time of the block.

    In a traced function Keras computes as many of them as the batch has samples.
    """
    found = [layer for layer in flatten_layers(model) if type(layer) is keras.layers.TimeDistributed]
    found = [layer for layer in found if "call" not in vars(layer)]  # within such a block it is done
    with contextlib.ExitStack() as undo:
        if found:
            undo.enter_context(exclusive())
        for layer in found:
            undo.callback(object.__delattr__, layer, "call")
            object.__setattr__(layer, "call", functools.partial(_stepping, layer, layer.call))
        yield


def _stepping(layer: keras.layers.Layer, own: Callable[..., Any], inputs: Any, **how: Any) -> Any:
    return own(inputs, **how) if inputs.shape[1] is not None else at_once(layer, inputs, **how)


class Ends:
    """What stands on both sides of the layer in one `TimeDistributed`, however often it is called.

    Args:
        name: Of the `TimeDistributed`.
    """

    def __init__(self, name: str):
        self.name = name
        self.samples = StepsToSamples(name=f"{name}_samples")
        self.count = CountSteps(name=f"{name}_count")
        self.steps: dict[int | None, SamplesToSteps] = {}

    def around(self, layer: keras.layers.Layer, call: Callable[[Any], Any], inputs: Any, mask: None = None) -> Any:
        """Return what the layer in a `TimeDistributed` returns for all steps of symbolic inputs.

        Args:
            layer: The `TimeDistributed`.
            call: What calls the layer in it.
            inputs: Sequences.
            mask: There is none.
        """
        if type(layer.layer) is keras.layers.Dense:  # works on the last axis, whatever is in front
            return call(inputs)
        count = inputs.shape[1]
        if count not in self.steps:
            name = self.name if not self.steps else f"{self.name}_{count}"
            self.steps[count] = SamplesToSteps(count, name=name)
        outputs = call(self.samples(inputs))
        return self.steps[count](outputs) if count is not None else self.steps[count](outputs, self.count(inputs))
