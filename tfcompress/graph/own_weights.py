"""Weights that a subclassed model holds itself, beside those of its layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops, tree
from keras.layers import Layer

from tfcompress.core.keras_private import STORES, own_state, own_trainable
from tfcompress.core.tensorflow_private import DEPENDENCIES
from tfcompress.core.transform import carried
from tfcompress.graph.naming import free


@keras.saving.register_keras_serializable(package="tfcompress")
class Parameter(Layer):
    """One weight as a layer, so that it can stand in a graph; what it is called with does not matter.

    Args:
        shape: The weight's shape.
        weight_name: The weight's name.
        weight_dtype: The weight's dtype.
        regularizer: What its size costs.
        constraint: What it is projected on after each update.
        weight_trainable: Whether it is learned; else it is state.

    Example:

    >>> import numpy as np
    >>> tuple(Parameter((2, 3), "positions")(np.ones((5, 1))).shape)
    (2, 3)
    """

    def __init__(
        self,
        shape: Sequence[int],
        weight_name: str,
        weight_dtype: str = "float32",
        regularizer: Any = None,
        constraint: Any = None,
        *,
        weight_trainable: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.shape = tuple(shape)
        self.weight_name = weight_name
        self.weight_dtype = weight_dtype
        self.regularizer = keras.regularizers.get(regularizer)
        self.constraint = keras.constraints.get(constraint)
        self.weight_trainable = bool(weight_trainable)

    def build(self, input_shape: Any = None) -> None:
        """Create the weight."""
        self.weight = self.add_weight(
            name=self.weight_name,
            shape=self.shape,
            dtype=self.weight_dtype,
            initializer="zeros",
            regularizer=self.regularizer,
            constraint=self.constraint,
            trainable=self.weight_trainable,
        )
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Return the weight."""
        return ops.convert_to_tensor(self.weight.value)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Return the weight's shape and dtype."""
        floats = keras.backend.is_float_dtype(self.weight_dtype)
        return keras.KerasTensor(self.shape, self.compute_dtype if floats else self.weight_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "shape": self.shape,
            "weight_name": self.weight_name,
            "weight_dtype": self.weight_dtype,
            "regularizer": keras.regularizers.serialize(self.regularizer),
            "constraint": keras.constraints.serialize(self.constraint),
            "weight_trainable": self.weight_trainable,
        }


@keras.saving.register_keras_serializable(package="tfcompress")
class Constant(Layer):
    """A constant in a graph; what it is called with in front of it does not matter.

    Example:

    >>> Constant()(ops.zeros((5, 1)), ops.arange(3)).shape
    TensorShape([3])
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**{**kwargs, "autocast": False})

    def call(self, inputs: Any, value: Any) -> Any:
        """Return the constant."""
        return ops.convert_to_tensor(value)

    def compute_output_spec(self, inputs: Any, value: Any) -> keras.KerasTensor:
        """Return the constant's shape and dtype."""
        return keras.KerasTensor(tuple(value.shape), keras.backend.standardize_dtype(value.dtype))


def in_graph(layer: Layer, anchor: Any, arguments: Any, taken: set[str]) -> Any:
    """Return what a layer is called with; constants alone, as of an embedding of positions, as part of the graph.

    Keras would compute at once what a layer with weights makes of these, and the weights were lost to training.

    Args:
        layer: The layer.
        anchor: A symbolic input of the new graph, to which constants are tied.
        arguments: What the layer is called with, in any structure.
        taken: The names that are given away; those of new layers are added.
    """
    leaves = tree.flatten(arguments)
    if not layer.weights or any(keras.utils.is_keras_tensor(x) for x in leaves):
        return arguments

    def tied(x: Any) -> Any:
        if not hasattr(x, "shape") or not hasattr(x, "dtype") or isinstance(x, keras.Variable):
            return x
        name = free(f"{layer.name}_constant", taken)
        taken.add(name)
        return Constant(name=name)(anchor, ops.convert_to_tensor(x))

    return tree.map_structure(tied, arguments)


def weights_as_layers(model: keras.Model, anchor: Any, replace: Callable[[Layer], Layer]) -> keras.Model:
    """Return an object like `model`, for its `call`: each weight that is an attribute is the output of a `Parameter`.

    Args:
        model: A subclassed model, which stays as it is; all else that it holds is shared.
        anchor: A symbolic input of the new graph, to which the layers are tied.
        replace: Called once with each of the layers; returns the one to use.

    Warns:
        UserWarning: If a weight of the model itself is neither an attribute nor in a list, tuple or dict that is one:
            a `call` that reads it can't be opened, and to all others it is of no use.
    """
    learned, state = own_trainable(model), own_state(model)
    own = {id(weight): weight for weight in [*learned, *state]}
    held = {name: value for name, value in vars(model).items() if name not in _TRACKED and _holds(value, own)}
    found = {id(weight) for value in held.values() for weight in tree.flatten(plain(value))}
    reached = {key: weight for key, weight in own.items() if key in found}
    if len(reached) < len(own):
        left = ", ".join(repr(weight.path) for key, weight in own.items() if key not in found)
        warnings.warn(
            f"Weights of {type(model).__name__} {model.name!r} that no attribute holds, nor a list, tuple or dict that "
            f"is one, are left out: {left}. An attribute of the same name that was set anew is the usual reason.",
            stacklevel=6,
        )
    made = {}
    names: set[str] = set()
    for weight in reached.values():
        name = free(weight.name, names)
        names.add(name)
        layer = Parameter(
            weight.shape,
            weight.name,
            weight.dtype,
            weight.regularizer,
            weight.constraint,
            weight_trainable=any(weight is one for one in learned),
            name=name,
            dtype=model.dtype_policy,
            trainable=weight.trainable or not any(weight is one for one in learned),
        )
        layer.build()
        layer.weight.assign(carried(weight, layer.weight))
        made[id(weight)] = replace(layer)(anchor)
    copy = object.__new__(type(model))
    vars(copy).update(vars(model))
    vars(copy).update({name: _filled(value, made) for name, value in held.items()})
    return copy


# What Keras itself keeps of a model's weights, and TensorFlow of what a checkpoint holds.
_TRACKED = (*STORES, DEPENDENCIES)


def plain(value: Any) -> Any:
    """Return a list, tuple or dict without what Keras or TensorFlow add to it."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _holds(value: Any, own: dict[int, Any]) -> bool:
    return any(id(entry) in own for entry in tree.flatten(plain(value)))


def _filled(value: Any, made: dict[int, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(entry, made) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        entries = [_filled(entry, made) for entry in value]
        return (
            entries
            if isinstance(value, list)
            else type(value)(*entries)
            if hasattr(value, "_fields")
            else tuple(entries)
        )
    return made.get(id(value), value)
