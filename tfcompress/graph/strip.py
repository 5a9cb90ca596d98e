"""Taking the wrappers away, with their effect left in the weights."""

from __future__ import annotations

from typing import Any

import keras

from tfcompress.core.arguments import check_model
from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.out_of_memory import says_memory
from tfcompress.core.passthrough import Inserted
from tfcompress.core.transform import remove_projection
from tfcompress.core.wrapper import CompressedLayer
from tfcompress.core.wrappers import warn_of_remarks, without_marks
from tfcompress.graph.flatten import opened
from tfcompress.graph.loss_scaling import plain
from tfcompress.graph.recursion_limit import as_given
from tfcompress.graph.rewrite import Call, rewritten


@says_memory
def strip(model: keras.Model) -> keras.Model:
    """Return a model of plain layers with the transformed weights, without wrappers.

    Args:
        model: A model with wrapped layers, or a plain one, of which a copy is made.

    Returns:
        A model of plain layers, not compiled, with the same names and the same outputs: functional, or a Sequential
        where the model was made of one in this process and is one layer behind another. The outputs of a model
        with quantized activations differ by their rounding, which is gone. Of layers that pruning has left next to
        nothing of, a warning tells.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model isn't built.

    Example:

    >>> import keras, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="dense")])
    >>> type(tfc.strip(tfc.prune(model, 0.5)).get_layer("dense")).__name__
    'Dense'
    """
    check_model(model)
    warn_of_remarks(model)
    return as_given(stripped(model))


def stripped(model: keras.Model) -> keras.Model:
    """Return what `strip` does, without a word."""

    def unwrap(layer: keras.layers.Layer) -> keras.layers.Layer | None:
        if isinstance(layer, Inserted):
            return None
        layer = without_marks(layer)
        if not isinstance(layer, CompressedLayer):
            return layer
        for position, value in layer.transformed().items():
            weight = layer.layer.weights[position]
            weight.assign(value)
            remove_projection(weight)
        return layer.layer

    # Without the quantizers of activations the model computes otherwise, as it should.
    exact = not any(isinstance(layer, Inserted) for layer in flatten_layers(model))
    return plain(rewritten(opened(model, unwrap, check=exact), _again, changes=_stands_for_operation).model())


def _stands_for_operation(call: Call) -> bool:
    return hasattr(call.operation, "as_operation")


def _again(call: Call, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    called = call.operation.as_operation if _stands_for_operation(call) else call.operation
    return called(*arguments, **keywords)
