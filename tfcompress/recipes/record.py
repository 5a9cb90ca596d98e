"""The folder of a run: what was done, with what, and what came of each step, so that it can go on and be repeated."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfcompress.core.atomic_files import check_room, check_target, save, write_text
from tfcompress.core.keras_private import loss_weights
from tfcompress.core.transform import read
from tfcompress.core.versions import versions
from tfcompress.data.dataset import Dataset
from tfcompress.loading import load
from tfcompress.pipeline.checkpoints import digest
from tfcompress.recipes.beginning import path_of
from tfcompress.recipes.order import first_change, written_by
from tfcompress.recipes.recipe import Recipe
from tfcompress.recipes.steps import Distill
from tfcompress.recipes.transforms import is_changing
from tfcompress.reports.tables import plain

RECIPE, RECORD, MODELS = "recipe.yaml", "run.json", "steps"
FIRST = 32
"""Samples that tell data from others which is read on the way."""

ADVICE = "Pass overwrite=True, or name another."


@dataclasses.dataclass(frozen=True)
class Done:
    """What came of a step.

    Attributes:
        step: Its name.
        model: The file, in the folder, of the model after it; `None`: it doesn't change the model, or no file can hold
            it.
        files: What it exported: {name: bytes}.
        metrics: Of the model after it, on the test data; `None`: not taken.
    """

    step: str
    model: str | None = None
    files: Mapping[str, int] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Any] | None = None


class Record:
    """What is known of a run in its folder.

    Args:
        folder: Of the run.
        recipe: What is run.
        model: The model that is given; `None`: it is loaded or made.
        data: The data that are given.
    """

    def __init__(self, folder: pathlib.Path, recipe: Recipe, model: keras.Model | None, data: Dataset | None):
        self.folder, self.recipe = folder, recipe
        self.about: dict[str, Any] = {
            "recipe": recipe.to_dict(),
            "model": digest(path_of(recipe)) if model is None else digest_of_model(model),
            "data": digest_of_data(data),
            "versions": versions(),
        }
        self.done: list[Done] = []
        self.resume = True

    @property
    def path(self) -> pathlib.Path:
        """The file of it."""
        return self.folder / RECORD

    def written(self) -> list[str]:
        """Return the names of all files that the run writes into its folder, beside the models of `steps`."""
        return [RECIPE, RECORD, *written_by(self.recipe.steps)]

    def open(self, resume: bool, overwrite: bool, advice: str = ADVICE) -> None:
        """Take up what an earlier run of the same recipe, model and data did.

        Args:
            resume: Whether to; of its trainings, too.
            overwrite: Whether what another run wrote is replaced.
            advice: What to do where that is refused.

        Raises:
            FileExistsError: If something else is there.
        """
        self.resume = resume
        stored = _stored(self.path)
        other = [name for name, value in plain(self.about).items() if (stored or {}).get(name) != value]
        if stored and not other and resume:
            self.done = [Done(**one) for one in stored["steps"]]
            return
        there = [name for name in self.written() if (self.folder / name).exists()]
        if there and not overwrite:
            why = f"of a run with another {other[0].removesuffix('s')}" if stored and other else "from before"
            raise FileExistsError(
                f"Expected a folder without {', '.join(there)}. Received: {self.folder}, which has them {why}. {advice}"
            )

    def begin(self, weights: int) -> None:
        """Make the folder, and write what is done with what.

        Args:
            weights: Numbers that the model has, for which there must be room.

        Raises:
            OSError: If nothing can be written there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in self.written():
            check_target(self.folder / name, pathlib.Path(name).suffix, overwrite=True)
        if not self.done:
            # Each file and each step's model holds them, a training's with the state of Adam.
            check_room(self.folder / "all", 4 * weights * (len(self.written()) + len(self.recipe.steps)))
            shutil.rmtree(self.folder / MODELS, ignore_errors=True)
        (self.folder / MODELS).mkdir(exist_ok=True)
        self.recipe.save(self.folder / RECIPE, overwrite=True)
        self.write(False)

    def write(self, finished: bool) -> None:
        """Write what is known."""
        steps = [dataclasses.asdict(one) for one in self.done]
        text = json.dumps(plain({**self.about, "steps": steps, "finished": finished}), indent=2, ensure_ascii=False)
        write_text(self.path, text + "\n")

    def keep(self, place: int, model: keras.Model) -> str | None:
        """Write the model after a step, and return its name in the folder; `None` if no file can hold it."""
        name = f"{MODELS}/{place + 1:02d}_{self.recipe.steps[place].called()}.keras"
        try:
            save(model, self.folder / name, overwrite=True)
        except (TypeError, ValueError):  # a layer without a configuration, which `export` needs none of
            return None
        return name

    def model_before(self, place: int) -> tuple[bool, keras.Model | None]:
        """Return whether the model in front of a step can be had, and the model; `None`: it is the first one."""
        steps = self.recipe.steps[:place]
        last = next((at for at in reversed(range(place)) if is_changing(steps[at])), None)
        if last is None:
            return True, None
        name = self.done[last].model
        if name is None:
            return False, None
        try:
            return True, load(self.folder / name)
        except Exception:  # code that isn't registered, a file that the disk spoilt
            return False, None

    def resumable(self) -> tuple[int, keras.Model | None]:
        """Return how many steps needn't be done again, and the model behind them; `None`: it is the first one.

        Where a model can't be loaded, also that which a later `distill` learns from, or a file is gone, the run goes on
        in front of that.
        """
        count = 0
        for one in self.done:
            if any(_size(self.folder / name) != size for name, size in one.files.items()):
                break
            count += 1
        for place in range(count, 0, -1):
            there, model = self.model_before(place)
            if there and self._has_teacher(place):
                self.done = self.done[:place]
                return place, model
        self.done = []
        return 0, None

    def _has_teacher(self, place: int) -> bool:
        """Return whether a run that goes on at a place has what its `distill` learns from."""
        steps = self.recipe.steps
        change = first_change(steps)
        if change is None or change >= place or not any(isinstance(step, Distill) for step in steps[place:]):
            return True
        return self.model_before(change)[0]


def digest_of_model(model: keras.Model | None) -> str:
    """Return what tells a model from others: its layers, how they are joined, weights and loss; "" for none."""
    if model is None:
        return ""
    found = hashlib.sha256()
    found.update(_configs(model).encode())
    for layer in model.layers:
        found.update(f"{layer.name} {type(layer).__name__}\n".encode())
    for weight in model.weights:
        value = read(weight)
        found.update(f"{weight.path} {value.dtype} {value.shape}\n".encode())
        found.update(np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


def _configs(model: keras.Model) -> str:
    """Return the configuration of a model and of its loss, with shares, without names that Keras counts by itself."""
    loss = model.loss if getattr(model, "compiled", False) else None
    texts = []
    for config in (lambda: _named(model), lambda: keras.saving.serialize_keras_object(loss)):
        try:
            texts.append(json.dumps(config(), sort_keys=True, default=lambda value: type(value).__name__))
        except Exception:  # a class or function without one
            texts.append("")
    shares = loss_weights(model)
    return f"{texts[0]}\n{texts[1] or getattr(loss, '__name__', type(loss).__name__)}\n{shares or ''}"


def _named(model: keras.Model) -> dict[str, Any]:
    config = {name: value for name, value in model.get_config().items() if name != "name"}
    if isinstance(model, keras.Sequential):
        config["layers"] = [one for one in config["layers"] if one["class_name"] != "InputLayer"]
    return config


def digest_of_data(data: Dataset | None) -> str:
    """Return what tells data from others: arrays as a whole, of what is read on the way the first samples; "": none.

    Samples that are others each time that they are read, as augmented ones are, tell nothing: of these it is their
    number and form.
    """
    if data is None:
        return ""
    found = hashlib.sha256()
    for split in (data.train, data.validation, data.test):
        if split is None:
            continue
        found.update(f"{split.samples} {split.x} {split.y}\n".encode())
        arrays = keras.tree.flatten(getattr(split, "arrays", None) or split.first(FIRST))
        if not hasattr(split, "arrays"):
            again = keras.tree.flatten(split.first(FIRST))
            arrays = arrays if all(map(np.array_equal, arrays, again)) else []
        for array in arrays:
            found.update(np.ascontiguousarray(array).tobytes() if array.dtype.kind != "O" else str(array).encode())
    return found.hexdigest()


def _stored(path: pathlib.Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("steps"), list) else None


def _size(path: pathlib.Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
