"""Graphs that are deeper than Python's limit of recursion, through which Keras walks in recursion."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from tfcompress.core.keras_private import inbound_nodes, nodes_by_depth, outbound_nodes
from tfcompress.core.locking import recursion
from tfcompress.graph.loss_scaling import scaled

LIMIT = 10_000
"""Layers behind one another; Keras takes one frame for each. EfficientNetV2L in integers has some 1,500."""


@contextlib.contextmanager
def deep_recursion() -> Iterator[None]:
    """Let Python recur as deep as `LIMIT`, for the time of the block."""
    with recursion(LIMIT):
        yield


def class_of(model: keras.Model) -> Any:
    """Return the class for a functional model made of another: the user's own, with its training steps, or Keras'."""
    cls = type(model)
    if cls is keras.Sequential or getattr(model, "of_sequential", False):
        return _of_sequential
    own = isinstance(model, keras.Function) and not cls.__module__.startswith(("keras.", "tfcompress."))
    return cls if own and cls.__init__.__module__.startswith("keras.") else keras.Model


def _of_sequential(inputs: Any, outputs: Any, name: str | None = None) -> keras.Model:
    model = keras.Model(inputs, outputs, name=name)
    model.of_sequential = True
    return model


def as_given(model: keras.Model) -> keras.Model:
    """Return a functional model as a Sequential if it was made of one, and still is one layer behind another.

    Args:
        model: A flat functional model that isn't used any more.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> flat = functional(model.inputs[0], model.outputs[0], "mine", class_of(model))
    >>> type(flat).__name__, type(as_given(flat)).__name__
    ('Functional', 'Sequential')
    """
    depths = nodes_by_depth(model)
    chain = [nodes[0].operation for nodes in depths]
    plain = (
        all(len(nodes) == 1 and len(nodes[0].outputs) == 1 for nodes in depths)
        and all(nodes[0].arguments.kwargs.keys() <= {"training", "mask"} for nodes in depths)  # Keras' own
        and all(len(nodes[0].arguments.args) == 1 for nodes in depths[1:])
        and all(isinstance(operation, keras.layers.Layer) for operation in chain)
        and len({id(operation) for operation in chain}) == len(chain)
        and len(model.outputs) == 1
    )
    single = all(keras.utils.is_keras_tensor(x) for x in (model.output, *model.inputs))
    if not getattr(model, "of_sequential", False) or not plain or not single:
        return model
    for operation in chain[1:]:
        inbound_nodes(operation).clear()
        outbound_nodes(operation).clear()
    outbound_nodes(chain[0]).clear()
    with deep_recursion():
        made = keras.Sequential(chain, name=model.name)
    made.output_names = list(model.output_names)
    return made


def functional(inputs: Any, outputs: Any, name: str | None = None, model_class: Any = keras.Model) -> keras.Model:
    """Return a functional model, however deep its graph is; with layers in float16 one that scales the loss.

    Args:
        inputs: Symbolic tensors, in any structure.
        outputs: Symbolic tensors, in any structure.
        name: The model's name.
        model_class: Its class.

    Example:

    >>> import keras
    >>> x = inputs = keras.Input((2,))
    >>> for _ in range(1500):
    ...     x = keras.layers.Identity()(x)
    >>> len(functional(inputs, x).layers)
    1501
    """
    with deep_recursion():
        return scaled(model_class(inputs, outputs, name=name))
