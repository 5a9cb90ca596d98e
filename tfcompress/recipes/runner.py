"""Running a recipe, step for step, in a folder where it goes on if it was killed."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tfcompress.core.arguments import check_flag, check_path, short
from tfcompress.data.dataset import Dataset
from tfcompress.evaluation import Report as Comparison
from tfcompress.evaluation.page.assemble import Scan
from tfcompress.export import Artifact
from tfcompress.pipeline.losses import loss_for
from tfcompress.pipeline.stages import Stage, silent
from tfcompress.recipes.beginning import opened, path_of
from tfcompress.recipes.recipe import Recipe
from tfcompress.recipes.record import ADVICE, Record
from tfcompress.recipes.transforms import trial
from tfcompress.recipes.work import Work


@dataclasses.dataclass(frozen=True)
class Run:
    """What came of a recipe.

    Attributes:
        recipe: What was run.
        folder: Where it was: `recipe.yaml`, `run.json` (seed, versions, metrics), all files; models in `steps`.
        model: As it is behind the last step, with wrappers; `tfcompress.strip` takes them off.
        artifacts: {name: the `.tflite` or `.onnx` file}.
        metrics: {step, such as "02_finetune": metrics on the test data of the model after it}, of steps that change the
            model, once it is trained, and of `load`.
        report: What the step `report` made; `None`: there is none.
    """

    recipe: Recipe
    folder: pathlib.Path
    model: keras.Model
    artifacts: dict[str, Artifact]
    metrics: dict[str, Mapping[str, Any]]
    report: Comparison | None = None


def run(
    recipe: Recipe | str | os.PathLike[str],
    model: keras.Model | None = None,
    data: Dataset | None = None,
    *,
    folder: str | os.PathLike[str],
    stage: Stage = silent,
    resume: bool = True,
    overwrite: bool = False,
    advice: str = ADVICE,
    begin: Callable[[], None] | None = None,
    about: Mapping[str, Any] | None = None,
    scans: Sequence[Scan] = (),
    metrics: bool = True,
) -> Run:
    """Run a recipe: first all of it without training, to see that each config fits; then step for step.

    The same recipe, model and data give the same bytes of `.tflite` and `.onnx` files, and the same weights in `.keras`
    files; a run that was killed goes on at its step, and within a training at the optimizer's step. The seeds of
    Python, NumPy and Keras are set, by the recipe's.

    Args:
        recipe: A `Recipe`, the path of one, or a name of `Recipe.library()`.
        model: A built model; it is not changed. `None`: that of the step `load`, or a small one that is
            made for the data.
        data: To train, calibrate and evaluate with; `None` for a recipe that does none of these.
        folder: Where all goes; made if it isn't there.
        stage: `with stage(text, epochs) as callbacks:` surrounds each part; for a progress bar.
        resume: Whether to go on with what a run of the same recipe, model and data left there.
        overwrite: Whether what another run wrote there is replaced.
        advice: What to do where that is refused, at the end of the message.
        begin: Called when all is checked, and nothing has been written yet.
        about: What else a report says, as in `tfcompress.compare`.
        scans: What is shown in a report besides, as in `tfcompress.compare`.
        metrics: Whether the model is evaluated after its steps; not, where only its files are judged.

    Raises:
        FileExistsError: If another run wrote there, and `overwrite` is False.
        TypeError: If an argument is of another kind.
        ValueError: If the recipe doesn't fit the model or the data; the message says which step.

    Example:

    >>> import keras, numpy as np, tempfile
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> steps = [{"step": "prune", "config": 0.5}, {"step": "export", "files": ["a.onnx"]}]
    >>> made = run(Recipe.from_dict({"steps": steps}), model, folder=tempfile.mkdtemp())
    >>> made.artifacts["a.onnx"].format, sorted(path.name for path in made.folder.iterdir())
    ('onnx', ['a.onnx', 'recipe.yaml', 'run.json', 'steps'])
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.read(check_path(recipe))
    place = pathlib.Path(check_path(folder))
    check_flag("resume", resume)
    check_flag("overwrite", overwrite)
    if data is not None and not isinstance(data, Dataset):
        raise TypeError(f"Expected data to be a tfcompress.data.dataset.Dataset. Received: {short(data)}.")
    record = Record(place, recipe, model, data)
    record.open(resume, overwrite, advice)
    keras.utils.set_random_seed(recipe.seed)
    given, first = opened(recipe, model, data)
    made = model is None and path_of(recipe) is None
    loss = None if data is None else loss_for(given if given.compiled else first, data, first)
    work = Work(recipe, data, record, first, loss, made, stage, about or {}, scans, metrics)
    if not record.done:
        trial(recipe, first, data)
    if begin is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        begin()
    record.begin(sum(math.prod(weight.shape) for weight in first.weights))
    found = work.do()
    return Run(recipe, place, work.model, work.artifacts, found, work.report)
