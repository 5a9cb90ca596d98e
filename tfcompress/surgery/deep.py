"""Graphs that are deeper than Python's limit of recursion, through which Keras walks in recursion."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from tfcompress.exclusive import recursion
from tfcompress.surgery.loss_scaling import scaled

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
    own = isinstance(model, keras.Function) and not cls.__module__.startswith(("keras.", "tfcompress."))
    return cls if own and cls.__init__.__module__.startswith("keras.") else keras.Model


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
