"""The loss scaled where float16 needs it, whoever made the model."""

from __future__ import annotations

from typing import Any

import keras

from tfcompress.core.keras_private import flatten_layers, own_policy, set_policy
from tfcompress.layers.names import is_of_keras


def policy_of_layers(model: keras.Model) -> keras.DTypePolicy | None:
    """Return "mixed_float16" if a layer of a model computes in float16 with float32 weights, else `None`.

    Example:

    >>> import keras
    >>> layers = [keras.Input((4,)), keras.layers.Dense(2, dtype="mixed_float16")]
    >>> policy_of_layers(keras.Sequential(layers))
    <DTypePolicy "mixed_float16">
    """
    layers = flatten_layers(model, include_self=False)
    half = any(layer.compute_dtype == "float16" and layer.variable_dtype == "float32" for layer in layers)
    return keras.DTypePolicy("mixed_float16") if half else None


@keras.saving.register_keras_serializable(package="tfcompress")
class MixedPrecisionModel(keras.Model):
    """A functional model whose `compile` scales the loss if one of its layers computes in float16.

    Keras goes by the policy of the model itself, which a functional model takes from the global setting and doesn't
    save: made or loaded without that setting, a model with float16 layers would train without, and lose the gradients
    below 6e-8.
    """

    @property
    def dtype_policy(self) -> keras.DTypePolicy:
        """The policy of the layers in float16, if there are any, else that of the model."""
        return policy_of_layers(self) or own_policy(self)

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        set_policy(self, keras.dtype_policies.get(value))


def scaled(model: keras.Model) -> keras.Model:
    """Return a functional model whose `compile` scales the loss if its layers need that: itself, or one like it."""
    policy = policy_of_layers(model)
    if policy is None or isinstance(model, MixedPrecisionModel):
        return model
    if is_of_keras(model):
        return MixedPrecisionModel(model.input, model.output, name=model.name)
    return scale_loss(model)  # of a class of the user's own


def scale_loss(model: keras.Model) -> keras.Model:
    """Let a model's next `compile` scale the loss if its layers need that, whatever its class; returns the model.

    Keras saves nothing of it: `keras.models.load_model` brings back a model without, `tfcompress.load` one with it.
    """
    policy = policy_of_layers(model)
    if policy is not None and not isinstance(model, MixedPrecisionModel):
        set_policy(model, policy)
    return model


def plain(model: keras.Model) -> keras.Model:
    """Return a model of Keras' own class with the same layers, that scales the loss as `scale_loss` says."""
    if not isinstance(model, MixedPrecisionModel):
        return model
    return scale_loss(keras.Model(model.input, model.output, name=model.name))
