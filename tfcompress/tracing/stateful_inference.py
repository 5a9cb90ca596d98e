"""Inference that changes a model's variables, which no file can do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress.core.keras_private import flatten_layers, own_variables, seed_generators
from tfcompress.graph.inputs.symbolic import has_graph
from tfcompress.graph.sample_inputs.samples import random_inputs


def changed(model: keras.Model, scope: keras.StatelessScope) -> list[tuple[Any, keras.Variable | None]]:
    """Return the variables that a call has assigned, but for seeds, each with the layer that has it.

    Args:
        model: That was called.
        scope: In which it was.

    Returns:
        Pairs; what no layer has is `None`, and the model's.
    """
    found: list[tuple[Any, keras.Variable | None]] = []
    left = set(scope.state_mapping)
    for layer in flatten_layers(model):
        left -= {id(variable) for variable in layer.metrics_variables}
        left -= {id(generator.state) for generator in seed_generators(layer)}
    for layer in flatten_layers(model):
        for variable in _variables(layer):
            if id(variable) in left:
                left.remove(id(variable))
                found.append((layer, variable))
    unknown = any(not _is_seed(scope.state_mapping[key]) for key in left)
    return [*found, (model, None)] if unknown else found


def _variables(layer: Any) -> Iterator[keras.Variable]:
    """Yield a layer's own variables, those too that it doesn't track, as the state of a recurrent layer."""
    yield from own_variables(layer)
    for name, value in vars(layer).items():
        if not name.startswith("_"):
            yield from (x for x in keras.tree.flatten(value) if isinstance(x, keras.Variable))


def _is_seed(value: Any) -> bool:
    """Return whether a value that belongs to no layer is a seed, as layers of augmentation have it."""
    dtype = keras.backend.standardize_dtype(value.dtype)
    return dtype in ("uint32", "int64") and tuple(value.shape) == (2,)  # JAX's, TensorFlow's


def check_unchanged(model: keras.Model, assigned: Sequence[Any], scopes: Collection[str]) -> None:
    """Refuse a model whose inference changes variables: a file would lose what it has seen.

    Args:
        model: That was traced.
        assigned: The layers that assign a variable of theirs on which an output depends.
        scopes: Of the operations that assign a variable of TensorFlow's own; layers are among them.

    Raises:
        ValueError: There is such a layer; it is named.
    """
    recurrent = list(dict.fromkeys(layer.name for layer in assigned if _is_recurrent(layer)))
    if recurrent:
        raise ValueError(
            "Expected inference that changes no state: a file starts anew at each run. Received: "
            f"{', '.join(map(repr, recurrent))} of {model.name!r}, with stateful=True. Make the model with "
            "stateful=False and give whole sequences; or, to go on from run to run, export with stateful='io', which "
            "makes the state inputs and outputs of the file. So does a model of one's own with them: "
            "y, *state = LSTM(units, return_state=True)(x, initial_state=[h, c]). Weights stay the same (set_weights)."
        )
    raw = [layer for layer in flatten_layers(model, include_self=False) if layer.name in scopes]
    layers = {layer.name: type(layer).__name__ for layer in (*assigned, *raw)}
    if layers or scopes:
        listed = ", ".join(f"layer {name!r} ({kind})" for name, kind in layers.items()) or "an operation"
        raise ValueError(
            f"Expected inference that changes no variable: a file starts anew at each run. Received: {listed} of "
            f"{model.name!r}, which assigns a variable when called with training=False. Assign in training alone, or "
            "make the state an input and an output of the model."
        )


def assigns_the_same(model: keras.Model, variables: Sequence[keras.Variable | None]) -> bool:
    """Return whether each call assigns, and returns, the same, as one that multiplies a kernel by a mask does.

    What is traced, the values after the first call, then holds for all of them.

    Args:
        model: That assigns variables.
        variables: Which; `None` stands for one that isn't known.
    """
    known = [variable for variable in variables if variable is not None]
    if len(known) < len(variables) or not has_graph(model):
        return False

    def called(seed: int, values: Sequence[Any] = ()) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return what variables hold after a call, where they held some values before it, and what it returned."""
        with keras.StatelessScope(state_mapping=list(zip(known, values, strict=False))) as scope:
            outputs = keras.tree.flatten(model(random_inputs(model, seed=seed), training=False))
        left = [np.asarray(scope.get_current_value(variable)) for variable in known]
        return left, [np.asarray(x) for x in outputs]

    left, outputs = called(0)
    again, same = called(0, [keras.ops.convert_to_tensor(value) for value in left])
    others, _ = called(1)
    pairs = [*zip(left, again, strict=True), *zip(left, others, strict=True), *zip(outputs, same, strict=True)]
    return all(np.array_equal(x, y) for x, y in pairs)


def _is_recurrent(layer: Any) -> bool:
    return isinstance(layer, keras.layers.RNN) and bool(layer.stateful)
