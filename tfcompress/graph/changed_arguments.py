"""A layer of Keras' own, built anew with other arguments."""

from __future__ import annotations

from typing import Any

import keras
from keras.layers import Layer

from tfcompress.core.keras_private import forget_variables
from tfcompress.graph.copy_objects import Copies


class _WithoutWeights(Copies):
    def variable(self, old: keras.Variable) -> Any:
        return None


def built_anew(layer: Layer, shape: Any = None, /, **attributes: Any) -> Layer:
    """Return a new layer like a built one, with other attributes, and weights as at the beginning of a training.

    Activations, regularizers and the like are those of the layer: nothing goes through its configuration.

    Args:
        layer: A built layer of Keras' that makes its weights in `build`, such as a Dense or a convolution.
        shape: What the new layer is built for; by default what the layer was built for.
        **attributes: What is different, by the names of attributes.

    Example:

    >>> dense = keras.layers.Dense(2, activation=lambda x: x + 1)
    >>> dense.build((None, 3))
    >>> tuple(built_anew(dense, (None, 5), units=4).kernel.shape)
    (5, 4)
    """
    try:
        new = _unbuilt(layer, attributes)
        _build(new, layer, shape)
    except Exception:  # an initializer that gives the old shape alone, also when the saved model is loaded
        names = [name for name in vars(layer) if name.endswith("_initializer")]
        new = _unbuilt(layer, {**attributes, **{name: keras.initializers.Zeros() for name in names}})
        _build(new, layer, shape)
    return new


def _unbuilt(layer: Layer, attributes: dict[str, Any]) -> Layer:
    new = _WithoutWeights().of(layer)
    for name, value in vars(layer).items():
        if isinstance(value, keras.Variable):
            del vars(new)[name]
    forget_variables(new)
    for name, value in attributes.items():
        setattr(new, name, value)
    return new


def _build(new: Layer, layer: Layer, shape: Any) -> None:
    if shape is None:
        new.build_from_config(layer.get_build_config())
    else:
        new.build(tuple(shape))
