"""A model of another precision tried, on random data, before it is trained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops
from keras.layers import Layer

from tfcompress.core.keras_private import flatten_layers
from tfcompress.core.out_of_memory import pass_on_full
from tfcompress.core.passthrough import innermost
from tfcompress.graph.sample_inputs.samples import random_inputs
from tfcompress.precision.casting import CastError
from tfcompress.precision.devices import compiled
from tfcompress.precision.policies import HALVES
from tfcompress.quantization.ptq import layerwise


class Trial:
    """Runs models made of one and the same, layer by layer, in inference and in training.

    Args:
        before: The model that they are made of; where it fails on random data, their failure says nothing.
    """

    def __init__(self, before: keras.Model):
        self.before = before
        self.possible = not any(keras.backend.standardize_dtype(x.dtype) == "string" for x in before.inputs)

    def run(self, made: keras.Model) -> list[str]:
        """Run a model; none of its state changes.

        Returns:
            The names of its layers that add losses in 16 bits, which `fit` can't add up with the others.

        Raises:
            CastError: If a layer fails, in inference or in training.
        """
        found: list[str] = []
        for training in (False, True) if self.possible else ():
            try:
                found += _run(made, training)
            except CastError as failure:
                if self._fails_before(training):
                    continue
                raise failure
        return list(dict.fromkeys(found))

    def _fails_before(self, training: bool) -> bool:
        try:
            _run(self.before, training)
        except CastError:
            return True
        return False


def _run(model: keras.Model, training: bool) -> list[str]:
    tried: set[type] = set()
    found: list[str] = []

    def visit(operation: Any, call: Any, args: Any, kwargs: Any) -> Any:
        kind = type(innermost(operation))
        try:
            with _losses(operation, found):
                outputs = (call if kind in tried else compiled(call))(*args, **kwargs)
            tried.add(kind)
            keras.tree.map_structure(ops.convert_to_tensor, outputs)
        except Exception as error:
            pass_on_full(error)
            raise CastError(operation, error) from error
        return outputs

    with keras.StatelessScope():
        layerwise.run(model, keras.tree.flatten(random_inputs(model)), visit, training=training)
    return found


@contextlib.contextmanager
def _losses(operation: Any, found: list[str]) -> Iterator[None]:
    """Note the name of a layer if it, or a layer inside of it, adds a loss in 16 bits."""

    def add_loss(losses: Any) -> None:
        if any(keras.backend.standardize_dtype(loss.dtype) in HALVES for loss in keras.tree.flatten(losses)):
            found.append(operation.name)

    with contextlib.ExitStack() as undo:
        for layer in flatten_layers(operation) if isinstance(operation, Layer) else ():
            object.__setattr__(layer, "add_loss", add_loss)
            undo.callback(object.__delattr__, layer, "add_loss")
        yield
