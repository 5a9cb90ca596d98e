"""The layers and operations of a graph that is made anew: each copied once, under a name of its own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras.layers import Layer

from tfcompress.core.passthrough import AskedTraining, FixedTraining, asks_for_training
from tfcompress.graph.clone import copy_layer
from tfcompress.graph.copy_objects import Copies
from tfcompress.graph.inputs.symbolic import graph_of, is_graph
from tfcompress.graph.naming import nested_name

Made = tuple[dict[int, Any], dict[int, tuple[Layer | None, bool | None]]]


class NewLayers:
    """Makes layers and operations for those of a model; one that is shared stays shared.

    Args:
        model: The model.
        replace: As for `rebuild`.
        parents: The layers that are open around the next call; changed by the walk.

    Attributes:
        replaced: Whether `replace` gave another layer than the new one.
    """

    def __init__(self, model: keras.Model, replace: Callable[[Layer], Layer | None], parents: list[Layer]):
        self.replace = replace
        self.replaced = False
        self.parents = parents
        self.copies = Copies(model)
        self.layers: dict[int, tuple[Layer | None, bool | None]] = {}
        self.operations: dict[int, Any] = {}
        self.names: set[str] = set()
        self.reserved: dict[str, Any] = {}
        if is_graph(model):
            self.reserved = {operation.name: operation for operation in graph_of(model).operations}

    def made(self) -> Made:
        """Return what was made so far, to `restore`."""
        return dict(self.copies.memo), dict(self.layers)

    def restore(self, before: Made) -> None:
        """Take back what was made since `made` was called."""
        self.copies.memo, self.layers = before

    def layer(self, layer: Layer, pinned: bool | None, args: Any, kwargs: dict[str, Any]) -> Layer | None:
        """Return the new layer for one of the model; `None`: `replace` takes it out.

        Args:
            layer: The layer, called with `args` and `kwargs`.
            pinned: The `training` that a caller gives it; `None`: it follows the model.
            args: Arguments of the call.
            kwargs: Keyword arguments of the call.
        """
        if "training" not in inspect.signature(layer.call).parameters:
            pinned = None
        if id(layer) not in self.layers:
            new = copy_layer(layer, self.unique_name(layer), args, kwargs, self.copies)
            new.source_names = tuple(part.name for part in (layer, *self.parents))
            if pinned is not None or asks_for_training(layer):
                new = AskedTraining(new) if pinned is None else FixedTraining(new, pinned)
                new.build()
                new.source_names = new.layer.source_names
            replaced = self.replace(new)
            self.replaced = self.replaced or replaced is not new
            self.layers[id(layer)] = replaced, pinned
        new, was_pinned = self.layers[id(layer)]
        if was_pinned != pinned:
            raise ValueError(
                f"Expected layer {layer.name!r} to be called with one and the same `training` everywhere. Received: "
                f"training={was_pinned} and training={pinned}, where None follows the model. Use two layers."
            )
        return new

    def operation(self, operation: Any) -> Any:
        """Return the new operation for one that is no layer."""
        if id(operation) not in self.operations:
            new = self.copies.of(operation)
            new.name = self.unique_name(operation)
            self.operations[id(operation)] = new
        return self.operations[id(operation)]

    def unique_name(self, operation: Any) -> str:
        """Return the name itself where it is free, else one that begins with the name of the parent."""
        name = operation.name
        if self.reserved.get(name) is not operation:
            name = nested_name(name, self.parents, self.names | set(self.reserved))
        self.names.add(name)
        return name
