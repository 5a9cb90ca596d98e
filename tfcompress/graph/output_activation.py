"""What a model's output ends in."""

from __future__ import annotations

from typing import Any

import keras

from tfcompress.core.keras_private import place_in_output, producer, producing_node
from tfcompress.core.passthrough import Inserted, PassThrough


def last_activation(output: Any) -> str:
    """Return the lower-case name of the activation, or else of the layer or operation, that makes an output.

    Wrappers of this package, what it inserts, and identities are looked through.

    Args:
        output: A symbolic output of a functional or sequential model.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    >>> last_activation(model.outputs[0])
    'softmax'
    """
    operation = producer(output)
    if isinstance(operation, PassThrough):
        operation = operation.innermost
    if isinstance(operation, keras.layers.Identity | Inserted):
        return last_activation(producing_node(output).input_tensors[0])
    if isinstance(operation, keras.Model):
        return last_activation(operation.outputs[place_in_output(output)])
    activation = getattr(getattr(operation, "activation", None), "__name__", "")
    return activation or type(operation).__name__.lower()
