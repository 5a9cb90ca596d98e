"""Data of a search in the form that its model has: one input and one target without names, several by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import keras

from tfcompress.core.arguments import short
from tfcompress.core.keras_private import loss_weights
from tfcompress.core.names import nearest_names
from tfcompress.data.dataset import Dataset
from tfcompress.data.model_batches import again
from tfcompress.data.named_inputs import check_names
from tfcompress.data.nested_inputs import arrays
from tfcompress.data.reading import collected
from tfcompress.graph.flatten import rebuild
from tfcompress.graph.naming import names_of_outputs
from tfcompress.pipeline.sweep import single_input


def pair_of(data: Any) -> tuple[Any, Any]:
    """Return inputs and targets as arrays, of arrays or of what yields batches of both."""
    if isinstance(data, tuple) and len(data) == 2:
        y = arrays(data[1], "y")  # which is said first
        return arrays(data[0], "x"), y
    return collected(again(data))


def with_graph(model: keras.Model) -> keras.Model:
    """Return a model that knows its inputs and outputs: a subclassed one as a functional copy, with its losses."""
    if getattr(model, "inputs", None) and getattr(model, "outputs", None):
        return model
    made = rebuild(model)
    if getattr(model, "compiled", False):
        made.compile(loss=model.loss, loss_weights=loss_weights(model))
    return made


def by_names(model: keras.Model, given: Any, *, anew: bool = False) -> Any:
    """Return data in which the one input or output of a model has no name, and several have theirs, as arrays.

    Args:
        model: with the inputs and outputs.
        given: data, as `parts_of` takes it; several inputs, and targets of several outputs, by name, or a list or tuple
            of them in the model's order.
        anew: whether a `tf.data.Dataset` stays what it is, which is read anew for each epoch.
    """
    if given is None or isinstance(given, Dataset):
        return given
    if anew and is_tf_data(given):
        spec = given.element_spec
        alone = not any(isinstance(part, dict | tuple) for part in spec) if isinstance(spec, tuple) else True
        several = len(model.inputs) > 1 or len(model.outputs) > 1
        if (alone and not several) or not isinstance(spec, tuple) or len(spec) != 2:
            return given  # what isn't right there is said where it is read
        _inputs(model, spec[0]), _targets(model, spec[1])  # else TensorFlow tells what is wrong, within a trace
        graph = sys.modules["tensorflow"].autograph.experimental
        return given.map(graph.do_not_convert(lambda x, y: (_inputs(model, x), _targets(model, y))))
    x, y = pair_of(given)
    return _inputs(model, x), _targets(model, y)


def _inputs(model: keras.Model, x: Any) -> Any:
    """Return the array of the one input of a model, or those of several by name, in its order."""
    names = [one.name for one in model.inputs]
    if len(names) == 1:
        return single_input(model, x)
    if isinstance(x, list | tuple) and len(x) == len(names):
        x = dict(zip(names, x, strict=True))
    if not isinstance(x, Mapping):
        raise ValueError(
            f"Expected inputs {names}: a dict of arrays, or a tuple of them in this order. Received: {short(x)}."
        )
    check_names(x, names)
    return {name: x[name] for name in names}


def _targets(model: keras.Model, y: Any) -> Any:
    """Return the targets of the one output of a model, or those of several by name, in its order."""
    names = names_of_outputs(model)
    several = len(y) if isinstance(y, Mapping | list | tuple) else 0
    if not several and len(names) == 1:
        return y
    if several == len(names):
        if not isinstance(y, Mapping):
            y = dict(zip(names, y, strict=True))
        if len(names) == 1:  # a file, or a model, may call it differently
            return next(iter(y.values()))
        if set(y) == set(names):
            return {name: y[name] for name in names}
    received = f"those of {list(y)}" if isinstance(y, Mapping) else f"{several} arrays" if several else short(y)
    hints = nearest_names(y, names) if isinstance(y, Mapping) else ""
    raise ValueError(
        f"Expected targets of the outputs {list(names)}: one array for each, in a dict or, in this order, in a tuple. "
        f"Received: {received}.{hints}"
    )


def is_tf_data(data: Any) -> bool:
    """Return whether data is a `tf.data.Dataset`."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(data, tensorflow.data.Dataset)
