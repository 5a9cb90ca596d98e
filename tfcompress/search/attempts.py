"""One recipe that a search proposes: it is run, its files are judged, and what fails is told of."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Callable, Sequence

import keras

from tfcompress.core.error_messages import told
from tfcompress.data.dataset import Dataset
from tfcompress.pipeline.stages import Stage, silent
from tfcompress.recipes.recipe import Recipe
from tfcompress.recipes.runner import Run, run
from tfcompress.search.tries import TriedFile


def attempted(
    propose: Callable[[], Recipe],
    model: keras.Model,
    data: Dataset,
    judged: Callable[[Recipe, Run], Sequence[TriedFile]],
    *,
    folder: pathlib.Path,
    stage: Stage = silent,
) -> tuple[tuple[TriedFile, ...], str]:
    """Return the judged files of a recipe, and how it failed, in words; "": it didn't.

    Args:
        propose: returns the recipe.
        model: the float model.
        data: to train and calibrate with.
        judged: takes the recipe and its run, returns its files.
        folder: of the run.
        stage: surrounds each part of it.
    """
    try:
        recipe = propose()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a proposal that nobody made
            made = run(recipe, model, data, folder=folder, stage=stage, metrics=False)
        return tuple(judged(recipe, made)), ""
    except (ValueError, RuntimeError, FloatingPointError) as error:
        return (), f"failed: {type(error).__name__}: {told(error)}"
