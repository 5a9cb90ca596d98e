"""The layers that a model is made of in the end."""

from __future__ import annotations

from collections.abc import Iterator

import keras
from keras.layers import Layer

from tfcompress.core.keras_private import sublayers
from tfcompress.graph.selectors import kernel_positions


def leaf_layers(layer: Layer) -> Iterator[Layer]:
    """Yield the layers of a model that are no models themselves, each once.

    >>> inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="inner")])
    >>> [layer.name for layer in leaf_layers(keras.Sequential([inner, keras.layers.Dense(1, name="last")]))]
    ['inner', 'last']
    """
    seen: set[int] = set()
    waiting = list(sublayers(layer))
    while waiting:
        part = waiting.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, keras.Model) or (sublayers(part) and not kernel_positions(part)):
            waiting = [*sublayers(part), *waiting]
        elif not isinstance(part, keras.layers.InputLayer):
            yield part
