"""Symbolic inputs like those of a given model, and random data for them."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
from keras import ops, tree


def is_graph(layer: Any) -> bool:
    """Return whether a layer is a functional or a sequential model, and no more than that."""
    return has_graph(layer) and type(layer).call.__module__.startswith("keras.")


def has_graph(layer: Any) -> bool:
    """Return whether a layer is a functional or a sequential model, maybe with a `call` of its own."""
    return isinstance(layer, keras.Sequential) or (isinstance(layer, keras.Model) and isinstance(layer, keras.Function))


def graph_of(model: keras.Model) -> Any:
    """Return the functional graph of a functional or sequential model."""
    return model._functional if isinstance(model, keras.Sequential) else model


def new_inputs(model: keras.Model) -> Any:
    """Return new `keras.Input`s in the structure, with the names, shapes and dtypes of a model's inputs.

    Args:
        model: A built model. Of a subclassed one Keras knows the shapes that it was first called with, and
            not the dtypes: its inputs are taken to be of the model's own dtype, with any batch size.

    Raises:
        ValueError: If the `call` of a subclassed model was given more than one argument.
    """
    if has_graph(model):
        return tree.map_structure(_like, graph_of(model)._inputs_struct)
    shapes = list((recorded_shapes(model) or {}).values())
    parameters = inspect.signature(model.call).parameters.values()
    names = [p.name for p in parameters if p.name not in ("training", "mask")]
    required = [p.name for p in parameters if p.name in names and p.default is p.empty and p.kind < p.VAR_POSITIONAL]
    if len(shapes) != 1 or len(required) > 1:
        raise ValueError(
            "Expected a model whose `call` takes one argument, which may be a list or a dict of tensors. "
            f"Received: {type(model).__name__} {model.name!r}, called with {', '.join(names)}. "
            "Take them as one dict."
        )
    return _from_shapes(shapes[0], names[0], model.variable_dtype)


def recorded_shapes(model: keras.Model) -> dict[str, Any] | None:
    """Return the shapes that a subclassed model was first called with, by argument, if Keras knows them.

    Of a model whose `call` depends on its data Keras doesn't; then those of its first layer are taken, so that
    opening it can say which line of `call` is to blame.
    """
    if model._build_shapes_dict:
        return model._build_shapes_dict
    built = [layer for layer in model._layers if layer.built and layer._build_shapes_dict]
    return built[0]._build_shapes_dict if built else None


def _like(tensor: Any) -> Any:
    operation = tensor._keras_history.operation
    return keras.layers.InputLayer.from_config(operation.get_config()).output


def _from_shapes(shapes: Any, name: str, dtype: str) -> Any:
    if isinstance(shapes, dict):
        return {key: _from_shapes(value, str(key), dtype) for key, value in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return keras.Input(tuple(shapes[1:]), name=name, dtype=dtype)
    made = [_from_shapes(value, f"{name}_{index}", dtype) for index, value in enumerate(shapes)]
    return tuple(made) if isinstance(shapes, tuple) else made


def vocabulary(model: keras.Model) -> int:
    """Return how many different integers are safe as inputs: the smallest `input_dim` of an Embedding, or 2."""
    sizes = [layer.input_dim for layer in model._flatten_layers() if isinstance(layer, keras.layers.Embedding)]
    return min(sizes, default=2)


def random_inputs(model: keras.Model, batch_size: int = 2, seed: int = 0) -> Any:
    """Return random data in the structure of a functional model's inputs.

    Args:
        model: A functional or sequential model.
        batch_size: Number of samples.
        seed: Seed of the generator.

    Returns:
        NumPy arrays: floats standard normal, or whole numbers where the model embeds its inputs; integers
        below the vocabulary; unknown sizes beyond the batch are 8.
    """
    generator = np.random.default_rng(seed)
    words = vocabulary(model)
    embeds = any(isinstance(layer, keras.layers.Embedding) for layer in model._flatten_layers())

    def draw(tensor: Any) -> Any:
        shape = (tensor.shape[0] or batch_size, *(size or 8 for size in tensor.shape[1:]))
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        if dtype == "bool":
            return generator.integers(0, 2, shape).astype(bool)
        if embeds or "int" in dtype:
            return generator.integers(0, words, shape).astype(dtype)
        return np.asarray(ops.cast(generator.standard_normal(shape), dtype))

    return tree.map_structure(draw, graph_of(model)._inputs_struct)
