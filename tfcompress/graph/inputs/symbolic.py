"""What a model is called with: symbolic inputs like its own, and the shapes that a subclassed one remembers."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import itertools
import weakref
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from tfcompress.core.keras_private import build_shapes, flatten_layers, graph_of_sequential, producer, sublayers
from tfcompress.core.sharding import gathered
from tfcompress.core.uneven_rows import fixes_rows
from tfcompress.graph.inputs.declared import given_dtypes, given_shapes, whole_structure
from tfcompress.graph.inputs.sizes import Sizes, find_sizes, hints_of, with_batch
from tfcompress.layers.catalogue import traits_of_base


def is_graph(layer: Any) -> bool:
    """Return whether a layer is a functional or a sequential model, and no more than that."""
    return has_graph(layer) and type(layer).call.__module__.startswith("keras.")


def has_graph(layer: Any) -> bool:
    """Return whether a layer is a functional or a sequential model, maybe with a `call` of its own.

    A sequential one that was never called, as augmentation that is for training alone, has no graph.
    """
    if isinstance(layer, keras.Sequential):
        return graph_of_sequential(layer) is not None
    return isinstance(layer, keras.Model) and isinstance(layer, keras.Function)


def graph_of(model: keras.Model) -> Any:
    """Return the functional graph of a functional or sequential model."""
    return graph_of_sequential(model) if isinstance(model, keras.Sequential) else model


def input_name(tensor: Any) -> str:
    """Return the name of a symbolic input: that of its layer, which a copy of the model has, too."""
    operation = producer(tensor)
    return str(operation.name if isinstance(operation, keras.layers.InputLayer) else tensor.name)


def new_inputs(model: keras.Model) -> Any:
    """Return new `keras.Input`s in the structure, with the names, shapes and dtypes of a model's inputs.

    Args:
        model: A built model. Of a subclassed one Keras knows the shapes that it was first called with, and
            not the dtypes: see `called_dtypes`. The batch size is free.

    Raises:
        ValueError: If the `call` of a subclassed model was given more than one argument.
    """
    if has_graph(model):
        return tree.map_structure(_like, graph_of(model).input)
    argument, structure = called_with(model)
    leaves = tree.flatten(_named(structure, argument))
    dtypes = iter(called_dtypes(model))
    made = [keras.Input(leaf.shape[1:], name=leaf.name, dtype=next(dtypes)) for leaf in leaves]
    return tree.pack_sequence_as(_named(structure, argument), made)


def called_with(model: keras.Model) -> tuple[str, Any]:
    """Return the name of the one argument of a subclassed model, and the shapes that it had.

    Raises:
        ValueError: If `call` was given more than one argument.
    """
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
    return names[0], shapes[0]


def called_dtypes(model: keras.Model) -> list[str]:
    """Return the dtypes that a subclassed model is called with, one for each of its inputs, flat.

    Keras doesn't keep them. They are those that the user gave (`inputs_given`); else the model's own, unless it
    runs on whole numbers alone, or only looks up what it is given in a table: then int32.

    Raises:
        ValueError: As `called_with`.
    """
    argument, structure = called_with(model)
    named = _named(structure, argument)
    leaves = tree.flatten(named)
    given = given_dtypes([leaf.name for leaf in leaves])
    own = str(model.variable_dtype)
    if len(given) == len(leaves):
        return [given[leaf.name] for leaf in leaves]
    found = _FOUND.get(model)
    if found is None or len(found) != len(leaves):
        found = _FOUND[model] = _dtypes_that_run(model, named, leaves, own)
    return [given.get(leaf.name, dtype) for leaf, dtype in zip(leaves, found, strict=True)]


def tables(layer: Any) -> list[int]:
    """Return how many rows each embedding of a model or layer has."""
    parts = flatten_layers(layer)
    return [part.input_dim for part in parts if traits_of_base(part).quantization == "table"]


_FOUND: weakref.WeakKeyDictionary[keras.Model, list[str]] = weakref.WeakKeyDictionary()
"""Of each model, what `called_dtypes` found by trying."""

MOST_COMBINED = 4
"""Inputs of which each combination of dtypes is tried."""


def _dtypes_that_run(model: keras.Model, named: Any, leaves: list[_Leaf], own: str) -> list[str]:
    """Try floats, then whole numbers where nothing else will do; what is only looked up in a table is whole."""
    rows_of_tables = tables(model)
    names = [leaf.name for leaf in leaves]
    shapes = with_batch(given_shapes(names, [leaf.shape for leaf in leaves]), 2)
    rows = [(leaf.rows,) for leaf in leaves]
    if fixes_rows(rows):  # any other numbers may not fit each other
        shapes = [(leaf.rows, *shape[1:]) for leaf, shape in zip(leaves, shapes, strict=True)]

    def outputs(sizes: Sequence[Sizes], words: int, dtypes: Sequence[str], more: Sequence[float]) -> list[Any]:
        random = np.random.default_rng(0)
        arrays = [
            (random.integers(0, words, size) + extra).astype(dtype)
            if "int" in dtype or rows_of_tables
            else random.standard_normal(size).astype("float32")
            for size, dtype, extra in zip(sizes, dtypes, more, strict=True)
        ]
        with keras.StatelessScope():
            made = model(tree.pack_sequence_as(named, list(map(ops.convert_to_tensor, arrays))), training=False)
        return [gathered(ops.cast(x, "float32")) for x in tree.flatten(made) if x is not None]

    count = len(leaves)
    if count <= MOST_COMBINED:
        ways = sorted(map(list, itertools.product((own, "int32"), repeat=count)), key=lambda way: way.count("int32"))
    else:
        ways = [[own] * count, ["int32"] * count]
    still = [0.0] * count
    # Beside ids there may be lengths, which are at most as large as a sequence is long.
    for words, way in itertools.product(dict.fromkeys((min(rows_of_tables, default=2), 2)), ways):
        try:
            run = functools.partial(outputs, words=words, dtypes=way)
            sizes = find_sizes(shapes, functools.partial(run, more=still), hints_of(model, shapes))
            before = run(sizes, more=still)
        except Exception:  # whatever the model raises
            continue
        if rows_of_tables:
            for place in range(count):
                looked_up = functools.partial(outputs, sizes, words, way)
                if way[place] == own and _only_looked_up(before, looked_up, place, count):
                    way[place] = "int32"
        return way
    return ways[0]


def _only_looked_up(before: list[Any], run: Any, place: int, count: int) -> bool:
    """Return whether a fraction added to an input changes nothing."""
    try:
        after = run([0.25 * (at == place) for at in range(count)])
    except Exception:  # it takes whole numbers alone, or others
        return False
    varies = any(np.ptp(x) > 0 for x in before if x.size)
    return varies and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(before, after, strict=True))


def recorded_shapes(model: keras.Model) -> dict[str, Any] | None:
    """Return the shapes that a subclassed model was first called with, by argument, if anybody knows them.

    Keras keeps those that `build` was called with. Where it was called with none, its own default counts; where
    there is none, what the user gave (see `inputs_given`). Of a model whose `call` depends on its data Keras knows
    nothing; then those of its first layer are taken, so that opening it can say which line of `call` is to blame.
    """
    recorded = build_shapes(model)
    if set(recorded) == {"shapes_dict"}:  # as a loaded model has it
        recorded = recorded["shapes_dict"]
    if recorded and all(shape is not None for shape in recorded.values()):
        return recorded
    parameters = inspect.signature(type(model).build).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty and p.kind < p.VAR_KEYWORD}
    if defaults and all(isinstance(shape, list | tuple | dict) for shape in defaults.values()):
        return defaults
    if whole_structure() is not None:
        return {"input_shape": _with_free_batch(whole_structure())}
    found = (_shapes_of_layer(layer) for layer in sublayers(model) if layer.built)
    return next((shapes for shapes in found if shapes), None)


def _shapes_of_layer(layer: Any) -> dict[str, Any] | None:
    """Return what a layer of a model was built with; for a model with a graph what its inputs are."""
    if has_graph(layer):
        structure = graph_of(layer).input
        return {"input_shape": tree.map_structure(lambda x: tuple(x.shape), structure)}
    recorded = build_shapes(layer)
    return recorded if recorded and all(shape is not None for shape in recorded.values()) else None


def _with_free_batch(shapes: Any) -> Any:
    """Put a batch before shapes that have none."""
    if isinstance(shapes, dict):
        return {key: _with_free_batch(value) for key, value in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return tuple(shapes) if shapes and shapes[0] is None else (None, *shapes)
    return [_with_free_batch(value) for value in shapes]


def as_declared(x: Any, declared: Any) -> Any:
    """Return a symbolic tensor in the dtype of the input that it is given for."""
    dtype = keras.backend.standardize_dtype(declared.dtype)
    return x if keras.backend.standardize_dtype(x.dtype) == dtype else keras.ops.cast(x, dtype)


def _like(tensor: Any) -> Any:
    operation = producer(tensor)
    return keras.layers.InputLayer.from_config(operation.get_config()).output


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """A shape, where a tuple would be taken for structure."""

    name: str
    shape: tuple[int | None, ...]
    rows: int | None = None


def _named(shapes: Any, name: str, path: tuple[str, ...] = ()) -> Any:
    if isinstance(shapes, dict):
        return {key: _named(value, "_".join((*path, str(key))), (*path, str(key))) for key, value in shapes.items()}
    if all(size is None or isinstance(size, int) for size in shapes):
        return _Leaf(name, (None, *shapes[1:]), shapes[0] if shapes else None)
    made = [_named(value, f"{name}_{index}", path and (*path, str(index))) for index, value in enumerate(shapes)]
    return tuple(made) if isinstance(shapes, tuple) else made
