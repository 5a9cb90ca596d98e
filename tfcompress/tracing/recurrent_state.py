"""The state of recurrent layers as inputs and outputs of a file, which goes on so from run to run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.keras_private import flatten_layers
from tfcompress.data.named_batches import first_samples
from tfcompress.data.named_inputs import TensorInfo, fit_inputs
from tfcompress.tracing.row_counts import AUTO
from tfcompress.tracing.signature import Signature, read_signature, unique

Key = tuple[str, int]
"""The name of a layer, and how many of that name are before it: the same in a model and what is made of it."""


@dataclasses.dataclass(frozen=True)
class StreamingSignature(Signature):
    """A signature with states behind the inputs, and the new states behind the outputs.

    It is called in a `StatelessScope`, which holds the states for the time of the call.

    Attributes:
        own: the model's, without states.
        keys: of the layers that have states.
        new_names: of the outputs with states, before they are made unlike the model's own.
    """

    own: Signature = dataclasses.field(kw_only=True)
    keys: tuple[Key, ...] = dataclasses.field(kw_only=True)
    new_names: tuple[str, ...] = dataclasses.field(kw_only=True)

    @property
    def own_inputs(self) -> dict[str, TensorInfo]:
        """The inputs without states."""
        return self.own.inputs

    @property
    def states(self) -> dict[str, TensorInfo]:
        """The inputs that are states."""
        return {name: spec for name, spec in self.inputs.items() if name not in self.own.inputs}

    def call(self, model: keras.Model, tensors: Sequence[Any]) -> dict[str, Any]:
        """Call `model` with inputs and states; return {name: tensor}, the new states behind the outputs."""
        count = len(self.own.inputs)
        found = _stateful(model)
        variables = [variable for key in self.keys for variable in keras.tree.flatten(found[key].states)]
        for variable, tensor in zip(variables, tensors[count:], strict=True):
            variable.assign(tensor)
        outputs = self.own.call(model, tensors[:count])
        names = unique(self.new_names, (*self.inputs, *outputs))
        new = {name: variable.value for name, variable in zip(names, variables, strict=True)}
        return {**outputs, **new}

    def notes(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """Say how the states are used."""
        names = list(self.states)
        pairs = ", ".join(f"{new} to {name}" for name, new in zip(names, outputs[-len(names) :], strict=True))
        said = (
            f"The state of recurrent layers is an input and an output: give zeros for {', '.join(names)} in the first "
            f"run, and from then on what the run before gave ({pairs}). Zeros begin a new sequence."
        )
        return (said,)


def streaming_signature(model: keras.Model, of: keras.Model | None = None) -> StreamingSignature:
    """Return the signature of a model whose recurrent layers' states are inputs and outputs.

    Args:
        model: built, with stateful recurrent layers.
        of: what it was made of for the file, if of another; that one's states are meant.

    Raises:
        ValueError: no layer of the model is stateful, or what is made of the model has other states.
    """
    own = read_signature(model)
    found = _found(model)
    states = _shapes(model)
    if of is not None and (wanted := _shapes(of)) != states:
        raise ValueError(
            "Expected stateful layers that stay what they are in the model that is written, for stateful='io'. "
            f"Received: {', '.join(dict.fromkeys(repr(name) for name, _ in wanted))} of {of.name!r}, which doesn't. "
            "Keep these layers float with layers= of tfcompress.quantize, or export the float model."
        )
    if not found:
        raise ValueError(
            "Expected a model with recurrent layers that keep their state (stateful=True), for stateful='io'. "
            f"Received: {model.name!r}, which has none. Leave stateful out, or make the layers with stateful=True."
        )
    by_owner: dict[int, list[tuple[int, ...]]] = {}  # two layers of one owner are beside each other
    for key, _, owner in found:
        by_owner.setdefault(id(owner), []).extend(states[key])
    labels = unique({id(owner): owner.name for _, _, owner in found}.values())
    each = list(zip(labels, by_owner.values(), strict=True))
    old = [f"{label}_state_{place}" for label, shapes in each for place in range(len(shapes))]
    new = [f"{label}_new_state_{place}" for label, shapes in each for place in range(len(shapes))]
    specs = [TensorInfo(shape, "float32") for _, shapes in each for shape in shapes]
    names = unique(old, (*own.inputs, *(own.output_names or ())))
    inputs = {**own.inputs, **dict(zip(names, specs, strict=True))}
    return StreamingSignature(
        inputs, own.output_names, own.declared, own.pack, own=own, keys=tuple(states), new_names=tuple(new)
    )


def has_states(model: keras.Model) -> bool:
    """Return whether a model has recurrent layers that keep their state."""
    return bool(_found(model))


def check_streaming(model: keras.Model, stateful: Any, batch_size: Any, inference_io: str) -> None:
    """Refuse what doesn't go with `stateful`.

    Raises:
        ValueError: it is no such value, the model has no states, or they are of another batch or dtype.
    """
    if stateful is None:
        return
    if not isinstance(stateful, str) or stateful != "io":
        raise ValueError(f"Expected stateful to be 'io' or None. Received: stateful={stateful!r}.")
    sizes = {spec.shape[0] for spec in streaming_signature(model).states.values()}
    if len(sizes) > 1 or batch_size not in (AUTO, *sizes):
        listed = " and ".join(str(size) for size in sorted(sizes, key=str))
        received = "as it is used by default" if batch_size == AUTO else f"batch_size={batch_size!r}"
        raise ValueError(
            f"Expected the batch size with which the stateful layers of {model.name!r} were made: {listed}. "
            f"Received: {received}. For another, make the model with Input(batch_shape=(n, ...)) and set_weights."
        )
    if inference_io != "float32":
        raise ValueError(
            "Expected inference_io='float32' with stateful='io': states are float numbers. Received: "
            f"inference_io={inference_io!r}."
        )


def fitted(model: keras.Model, data: Any, stateful: str | None) -> dict[str, np.ndarray]:
    """Return data to compare on by input name, with states where the file takes them; refuse what doesn't fit."""
    if stateful is not None:
        streaming = streaming_signature(model)
        return with_states(first_samples(data, streaming.own_inputs), streaming)
    inputs = read_signature(model).inputs
    return fit_inputs(first_samples(data, inputs), inputs, finite=True)


def with_states(data: Any, signature: StreamingSignature) -> dict[str, np.ndarray]:
    """Return data to compare on, with random states where it has none.

    Args:
        data: an array, a list or a dict; of the model's inputs, or, a dict, of the states too.
        signature: of the model.
    """
    states = signature.states
    if isinstance(data, Mapping) and not states.keys().isdisjoint(data):
        return fit_inputs(data, signature.inputs, finite=True)
    given = fit_inputs(data, signature.own_inputs, finite=True)
    samples = next((len(array) for array in given.values() if array.ndim), 1)
    random = np.random.default_rng(0)
    drawn = {name: random.standard_normal((samples, *map(_size, spec.shape[1:]))) for name, spec in states.items()}
    return {**given, **{name: values.astype("float32") for name, values in drawn.items()}}


def _size(size: int | None) -> int:
    return size or 1


def _stateful(model: keras.Model) -> dict[Key, Any]:
    """Return the recurrent layers that keep a state, in the model's order."""
    return {key: layer for key, layer, _ in _found(model)}


def _found(model: keras.Model) -> list[tuple[Key, Any, Any]]:
    """Return recurrent layers that keep a state, each with the layer by whose name it goes: a Bidirectional's two by
    that one's."""
    found: list[tuple[Key, Any, Any]] = []
    for layer, owner in _inside(model, None, set()):
        if isinstance(layer, keras.layers.RNN) and layer.stateful and layer.states is not None:
            place = sum(name == layer.name for (name, _), _, _ in found)
            found.append(((layer.name, place), layer, owner or layer))
    return found


def _inside(layer: Any, owner: Any, seen: set[int]) -> Iterator[tuple[Any, Any]]:
    """Yield all layers in a layer once, in its order (`_flatten_layers` turns that around), and what owns each."""
    is_both = isinstance(layer, keras.layers.Bidirectional)
    if is_both:
        owner = layer
    parts = (
        (layer.forward_layer, layer.backward_layer)
        if is_both
        else flatten_layers(layer, recursive=False, include_self=False)
    )
    for part in parts:
        if id(part) not in seen:
            seen.add(id(part))
            yield part, owner
            yield from _inside(part, owner, seen)


def _shapes(model: keras.Model) -> dict[Key, list[tuple[int, ...]]]:
    """Return the shapes of each layer's states."""
    return {key: [tuple(x.shape) for x in keras.tree.flatten(layer.states)] for key, layer, _ in _found(model)}
