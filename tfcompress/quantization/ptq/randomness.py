"""Which layers of a model give something else each time, whatever seeds their generators have."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.sharding import gathered
from tfcompress.graph.stateful_layers import beginning
from tfcompress.quantization.ptq.layerwise import Call, run


def random_layers(model: keras.Model, batch: list[Any]) -> tuple[list[str], set[int]]:
    """Find what draws from no generator of its own in inference, and so never draws the same twice.

    Args:
        model: A functional model.
        batch: Inputs to try it on.

    Returns:
        The names of such layers, and the `id` of each that gets what they give, them among these.
    """
    names: dict[str, None] = {}
    behind: set[int] = set()
    moving: dict[int, Any] = {}  # tensors, kept so that none gets another's id

    def visit(operation: Any, call: Call, args: Any, kwargs: Any) -> Any:
        with beginning(operation):  # a state is no draw
            outputs = call(*args, **kwargs)
        with beginning(operation):
            again = call(*args, **kwargs)
        given = keras.tree.flatten((args, kwargs))
        pairs = zip(keras.tree.flatten(outputs), keras.tree.flatten(again), strict=True)
        draws = not all(_same(x, y) for x, y in pairs)
        if draws:
            names.setdefault(operation.name)
        if draws or any(id(x) in moving for x in given):
            behind.add(id(operation))
            moving.update((id(x), x) for x in keras.tree.flatten(outputs))
        return outputs

    run(model, batch, visit)
    return list(names), behind


def _same(first: Any, second: Any) -> bool:
    """Return whether two outputs are equal; those that aren't float numbers are taken for it."""
    if first is None or not keras.backend.is_float_dtype(keras.backend.standardize_dtype(first.dtype)):
        return True
    before, after = (gathered(ops.cast(x, "float32")) for x in (first, second))
    return np.array_equal(before, after, equal_nan=True)
