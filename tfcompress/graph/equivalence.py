"""Whether a model that is made again computes what it was made of computes."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfcompress.core.keras_private import activations_freed, flatten_layers
from tfcompress.core.out_of_memory import pass_on_full
from tfcompress.core.sharding import gathered, of_first_process, spans_processes
from tfcompress.graph.inputs.symbolic import graph_of, has_graph, is_graph
from tfcompress.graph.sample_inputs.samples import random_inputs


def is_of_keras_alone(model: keras.Model) -> bool:
    """Return whether a functional model has Keras' own layers alone, and these hold no function of anybody else's.

    Copied call by call it computes the same, without trying.
    """
    graphs = [part for part in flatten_layers(model) if has_graph(part)]
    operations = [operation for graph in graphs for operation in graph_of(graph).operations]
    return is_graph(model) and all(map(_is_keras_own, [*flatten_layers(model), *operations]))


def _is_keras_own(x: Any) -> bool:
    held = [value for value in vars(x).values() if callable(value)]
    places = [type(x).__module__, *(getattr(value, "__module__", None) or "" for value in held)]
    return not isinstance(x, keras.layers.Lambda) and all(place.split(".")[0] == "keras" for place in places)


def check_equal(model: keras.Model, opened: keras.Model, branched: bool) -> None:
    """Raise ValueError unless both models compute the same from random data, in inference.

    Args:
        model: The model given.
        opened: What was made of it.
        branched: Whether its `call` asked for the value of `training`.
    """
    if any(keras.backend.standardize_dtype(x.dtype) == "string" for x in opened.inputs):
        return
    together = any(spans_processes(variable) for variable in opened.variables)
    old = None
    for samples in (None, 2, 1):  # where the model takes no other number, though it doesn't say so
        if old is None:
            data = random_inputs(opened, samples, far=True)
            data = tree.map_structure(of_first_process, data) if together else data
            old = _tried(model, data)
    if old is None:
        return  # it can't run on such data
    new = _infer(opened, data)
    alike = [of_first_process(output) for output in old] if together else old  # whose weights the copies have
    if len(new) == len(old) and close(alike, new):
        return
    again = _tried(model, data)
    if again is None:
        return
    if not close(old, again):  # it draws random numbers that Keras doesn't know of
        if close(new, _infer(opened, data)):
            raise ValueError(
                f"Expected {type(model).__name__} {model.name!r} to draw random numbers in layers. Received: other "
                "outputs for the same inputs each time, where its copy gives always the same: its `call` draws numbers "
                "that depend on no input. Put that part into a keras.layers.Layer of its own, which is kept whole, or "
                "draw in training alone."
            )
        return
    if branched:
        cause = (
            "its `call` branches on `training`, and computes something else there. Put that part into a "
            "keras.layers.Layer of its own; or, where inference is all that is wanted, put the model into another "
            "whose `call` is `return self.model(x, training=False)`"
        )
    else:
        cause = (
            "one of its layers keeps state outside of its attributes, or a `call` depends on its data. Keep state in "
            "attributes of the layer"
        )
    raise ValueError(
        f"Expected {type(model).__name__} {model.name!r} to compute the same when it is made again. Received: other "
        f"outputs; probably {cause}."
    )


def close(old: list[np.ndarray], new: list[np.ndarray]) -> bool:
    """Return whether all outputs agree to within float16's precision of the largest."""
    for want, got in zip(old, new, strict=True):
        scale = float(np.max(np.abs(want[np.isfinite(want)]), initial=0.0))
        if want.shape != got.shape or not np.allclose(want, got, rtol=0, atol=2e-3 * scale + 1e-6, equal_nan=True):
            return False
    return True


def _infer(model: keras.Model, data: Any) -> list[np.ndarray]:
    """Return a model's outputs, with no variable changed."""
    with keras.StatelessScope(), activations_freed():
        outputs = tree.flatten(model(data, training=False))
    return [gathered(ops.cast(x, "float32")) for x in outputs]


def _tried(model: keras.Model, data: Any) -> list[np.ndarray] | None:
    """Return a model's outputs; `None` if it fails on the data."""
    try:
        return _infer(model, data)
    except Exception as error:
        pass_on_full(error)
        return None
