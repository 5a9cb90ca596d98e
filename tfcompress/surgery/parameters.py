"""Weights that a subclassed model holds itself, beside those of its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops
from keras.layers import Layer

from tfcompress.transform import carried


@keras.saving.register_keras_serializable(package="tfcompress")
class Parameter(Layer):
    """One weight as a layer, so that it can stand in a graph; what it is called with does not matter.

    Args:
        shape: The weight's shape.
        weight_name: The weight's name.
        weight_dtype: The weight's dtype.
        regularizer: What its size costs.
        constraint: What it is projected on after each update.

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
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.shape = tuple(shape)
        self.weight_name = weight_name
        self.weight_dtype = weight_dtype
        self.regularizer = keras.regularizers.get(regularizer)
        self.constraint = keras.constraints.get(constraint)

    def build(self, input_shape: Any = None) -> None:
        """Create the weight."""
        self.weight = self.add_weight(
            name=self.weight_name,
            shape=self.shape,
            dtype=self.weight_dtype,
            initializer="zeros",
            regularizer=self.regularizer,
            constraint=self.constraint,
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
        }


def weights_as_layers(model: keras.Model, anchor: Any, replace: Callable[[Layer], Layer]) -> keras.Model:
    """Return an object like `model`, for its `call`: each weight that is an attribute is the output of a `Parameter`.

    Args:
        model: A subclassed model, which stays as it is; all else that it holds is shared.
        anchor: A symbolic input of the new graph, to which the layers are tied.
        replace: Called once with each of the layers; returns the one to use.

    Raises:
        ValueError: If a weight of the model itself is no attribute, but in a list or the like.
    """
    own = {id(weight): weight for weight in [*model._trainable_variables, *model._non_trainable_variables]}
    attributes = {name: value for name, value in vars(model).items() if id(value) in own}
    hidden = [weight.name for key, weight in own.items() if key not in {id(value) for value in attributes.values()}]
    if hidden:
        raise ValueError(
            f"Expected a model that holds its own weights as attributes. Received: {', '.join(map(repr, hidden))} of "
            f"{type(model).__name__} {model.name!r}. Make each an attribute, or put it into a layer."
        )
    made = {}
    for weight in own.values():
        layer = Parameter(
            weight.shape,
            weight.name,
            weight.dtype,
            weight.regularizer,
            weight.constraint,
            name=weight.name,
            dtype=model.dtype_policy,
            trainable=weight.trainable,
        )
        layer.build()
        layer.weight.assign(carried(weight, layer.weight))
        made[id(weight)] = replace(layer)(anchor)
    twin = object.__new__(type(model))
    vars(twin).update(vars(model), **{name: made[id(weight)] for name, weight in attributes.items()})
    return twin
