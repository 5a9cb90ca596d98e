"""Files that hold weights alone: they need the model that they are for."""

from __future__ import annotations

import collections
import pathlib
import shutil
import tempfile
import warnings
from typing import Any

import keras
import numpy as np

from tfcompress.core.arguments import check_model
from tfcompress.core.names import listed
from tfcompress.core.transform import read
from tfcompress.graph import rebuild
from tfcompress.graph.flatten import check_built
from tfcompress.loading.refusals import short


def load_weights(file: pathlib.Path, model: keras.Model) -> keras.Model:
    """Return a copy of a model with the weights of a file; the model given keeps its own.

    Args:
        file: an `.h5` file with weights, alone or with a model, of Keras 2 or 3.
        model: a built model with the layers that the weights are for.

    Raises:
        TypeError: `model` isn't a Keras model.
        ValueError: it isn't built, or the weights aren't for it.
    """
    check_model(model)
    check_built(model)
    before = [read(variable) for variable in model.variables]
    try:
        _load(file, model)
        after = model.get_weights()
        try:
            copy = keras.models.clone_model(model)
            copy.set_weights(after)
        except Exception:  # subclassed models, layers without a configuration: in Keras' many words
            copy = rebuild(model)
        return copy
    finally:
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)


def _load(file: pathlib.Path, model: keras.Model) -> None:
    import h5py

    with h5py.File(file, "r") as stored:
        legacy = "layer_names" in stored.attrs or "model_weights" in stored
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Skipping variable loading for optimizer")
        # Keras goes by the name.
        copy = pathlib.Path(folder) / ("model.h5" if legacy else "model.weights.h5")
        shutil.copyfile(file, copy)
        try:
            model.load_weights(copy)
        except Exception as error:  # Keras raises whatever layers and h5py raise
            raise ValueError(
                f"Expected weights of the layers of {model.name!r}. Received: {str(file)!r}, which doesn't fit: "
                f"{short(error)}. Give the model that was built with the same layers, in the same order."
            ) from error
    if not legacy and (left := _without_place(file, model)):
        raise ValueError(
            f"Expected weights of the layers of {model.name!r}. Received: {str(file)!r}, which doesn't fit: it holds "
            f"{listed(left, 3)}, for which the model has no weight. Give the model "
            "that was built with the same layers, in the same order."
        )
    if not all(np.all(np.isfinite(read(variable))) for variable in model.trainable_variables):
        warnings.warn(f"{file}: some of the weights aren't finite numbers.", stacklevel=4)


def _without_place(file: pathlib.Path, model: keras.Model) -> list[str]:
    """Return, in words, what a file holds beyond the weights of a model, going by shapes: Keras passes over it.

    Files may lay the same layers out otherwise than this Keras does. Numbers alone, and the state of optimizers,
    metrics and generators of random numbers, are no layers' weights.
    """
    import h5py

    places = collections.Counter(tuple(variable.shape) for variable in model.weights)
    left: list[str] = []

    def visit(name: str, stored: Any) -> None:
        if not isinstance(stored, h5py.Dataset) or not stored.shape or "/vars/" not in name:
            return
        if name.startswith(("optimizer/", "metrics/")) or "seed_generator" in name or "random_generator" in name:
            return
        places[stored.shape] -= 1
        if places[stored.shape] < 0:
            left.append(f"{name!r} of shape {stored.shape}")

    with h5py.File(file, "r") as whole:
        whole.visititems(visit)
    return left
