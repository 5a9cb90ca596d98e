"""A model run on data layer by layer, while what is visited changes its variables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import layers as L
from keras import ops

from tfcompress.surgery.inputs import graph_of, is_graph
from tfcompress.transform import read

Call = Callable[..., Any]
"""Calls a layer or operation."""


def check_graph(model: Any) -> None:
    """Raise ValueError unless a model is functional."""
    if not isinstance(model, keras.Model) or not is_graph(model):
        raise ValueError(
            f"Expected a functional model. Received: {model!r} of type {type(model).__name__}. Make one of it with "
            "tfcompress.surgery.rebuild."
        )


def run(
    model: keras.Model, batch: list[Any], visit: Callable[[Any, Call, Any, Any], Any], training: bool = False
) -> None:
    """Run a batch through a graph, in inference by default, each layer called by `visit(layer, call, ...)`."""
    graph = graph_of(model)

    def operation_fn(operation: Any) -> Call:
        in_training = isinstance(operation, L.Layer) and operation._call_has_training_arg

        def call(*args: Any, **kwargs: Any) -> Any:
            return operation(*args, **{**kwargs, "training": training} if in_training else kwargs)

        return lambda *args, **kwargs: visit(operation, call, args, kwargs)

    arrays = [ops.convert_to_tensor(x, dtype=declared.dtype) for x, declared in zip(batch, graph.inputs, strict=True)]
    graph._run_through_graph(arrays, operation_fn=operation_fn)


@contextlib.contextmanager
def only_moving(model: keras.Model, moving: list[keras.Variable]) -> Iterator[None]:
    """Put all state but that in `moving` back at the end of the block, and that too if it fails."""
    ids = {id(variable) for variable in moving}
    before = [(variable, read(variable)) for variable in moving]
    state = [(variable, read(variable)) for variable in model.non_trainable_variables if id(variable) not in ids]
    try:
        yield
    except BaseException:
        for variable, value in before:
            variable.assign(value)
        raise
    finally:
        for variable, value in state:
            variable.assign(value)
