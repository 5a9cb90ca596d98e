"""The steps of a recipe, done one behind the other."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from functools import singledispatchmethod
from typing import Any

import keras

from tfcompress.core.atomic_files import save
from tfcompress.core.wrappers import warn_of_remarks
from tfcompress.data.dataset import Dataset
from tfcompress.evaluation import Report as Comparison
from tfcompress.evaluation import compare, evaluate
from tfcompress.evaluation.open_predictor import Saved
from tfcompress.evaluation.page.assemble import Scan
from tfcompress.export import Artifact, export
from tfcompress.graph.strip import stripped
from tfcompress.pipeline.checkpoints import Resume
from tfcompress.pipeline.stages import Stage, silent
from tfcompress.quantization.quantize import is_quantized
from tfcompress.recipes.order import files_of, first_change, target_of, training_after
from tfcompress.recipes.recipe import Recipe
from tfcompress.recipes.record import Done, Record
from tfcompress.recipes.steps import Cluster, Export, Load, Prune, Quantize, Report, Step, Training, Transform
from tfcompress.recipes.trainings import epochs_of, said, seed_of, train
from tfcompress.recipes.transforms import Circumstances, before_training, changed, is_changing, steps_after

SEEN = 256
"""Test samples on which a file is compared with Keras before it gets its name."""


@dataclasses.dataclass
class Work:
    """A run in its midst.

    Attributes:
        recipe: What is run.
        data: To train, calibrate and evaluate with.
        record: Of the folder.
        first: The model that it begins with, a copy.
        loss: On the targets.
        made: Whether the model was made for the data.
        stage: Surrounds each part.
        about: What else a report says.
        scans: What is shown in it besides.
        evaluated: Whether the model is evaluated after its steps.
    """

    recipe: Recipe
    data: Dataset | None
    record: Record
    first: keras.Model
    loss: Any
    made: bool
    stage: Stage
    about: Mapping[str, Any]
    scans: Sequence[Scan]
    evaluated: bool

    def __post_init__(self) -> None:
        self.model = self.teacher = self.first
        self.saved: dict[str, keras.Model] = {}
        self.artifacts: dict[str, Artifact] = {}
        self.report: Comparison | None = None
        self.place = 0

    @property
    def folder(self) -> pathlib.Path:
        """Where all goes."""
        return self.record.folder

    def do(self) -> dict[str, Mapping[str, Any]]:
        """Do all steps that aren't done yet, and return the metrics of each."""
        self.resume = Resume(self.folder / "training", self.record.about)
        if not self.record.resume:
            self.resume.done()
        self.resume.begin()
        begun, model = self.record.resumable()
        self.model = self.model if model is None else model
        for place, step in enumerate(self.recipe.steps):
            self.place = place
            if place < begun:
                self._take_up(step)
                continue
            keras.utils.set_random_seed(seed_of(self.recipe.seed, place))
            if place == first_change(self.recipe.steps):
                self.teacher = self.model
            files = self._do(step) or {}
            kept = self.record.keep(place, self.model) if is_changing(step) else None
            self.record.done.append(Done(step.called(), kept, files, self._metrics(step)))
            self.record.write(False)
        self.record.write(True)
        self.resume.done()
        return {f"{at + 1:02d}_{one.step}": one.metrics for at, one in enumerate(self.record.done) if one.metrics}

    def _take_up(self, step: Step) -> None:
        """Do what is left of a step that an earlier run did."""
        if self.place == first_change(self.recipe.steps):
            _, before = self.record.model_before(self.place)
            self.teacher = self.first if before is None else before
        if isinstance(step, Export):
            for name in step.files:
                if not name.endswith(".keras"):
                    target = target_of(self.recipe.steps, name)
                    self.artifacts[name] = Artifact.open(self.folder / name, target)
        if isinstance(step, Report):
            self._do(step)

    @singledispatchmethod
    def _do(self, step: Step) -> dict[str, int] | None:
        """Do a step, and return the bytes of the files that it wrote."""
        kept = self.resume.folder / f"{self.place + 1:02d}_{step.called()}"
        steps = steps_after(self.recipe, self.place, self.data)
        how = Circumstances(self.data, steps, self.recipe.seed, trial=False, folder=kept)
        text = step.called()
        if isinstance(step, Quantize) and isinstance(step.config, str):
            text = f"quantize to {step.config}"
        with silent(text) if how.training and not isinstance(step, Quantize) else self.stage(text):
            self.model = changed(step, self.model, how)
        return None

    @_do.register
    def _(self, step: Load) -> dict[str, int] | None:
        return None  # it was loaded before anything was done

    @_do.register
    def _(self, step: Training) -> dict[str, int] | None:
        assert self.data is not None
        self.model = before_training(self.recipe, self.place, self.model)
        text = said(step, self.recipe.steps[: self.place], self.made)
        with self.stage(text, epochs_of(step, self.data)) as callbacks:
            train(
                step,
                self.model,
                self.teacher,
                self.data,
                self.loss,
                seed=seed_of(self.recipe.seed, self.place) % 2**31,
                callbacks=callbacks,
                backup=self.resume.backup(f"{self.place + 1:02d}_{step.called()}"),
            )
        return None

    @_do.register
    def _(self, step: Export) -> dict[str, int] | None:
        plain = self.model if is_quantized(self.model) else self._plain()
        in_onnx: dict[str, Any] = {"opset": step.opset, "weights": step.weights}
        in_tflite: dict[str, Any] = {"sparse": step.sparse, "prefer": step.prefer}
        in_tflite |= {} if step.target is None else {"weights": step.weights}
        seen = True if self.data is None else self.data.test.first(SEEN)
        for name in step.files:
            path = self.folder / name
            if path.suffix == ".keras":
                save(plain, path, overwrite=True)
                self.saved[name] = plain
                continue
            with self.stage(f"export {name}"):
                self.artifacts[name] = export(
                    plain,
                    path,
                    precision=step.precision,
                    inference_io=step.inference_io,
                    target=step.target,
                    overwrite=True,
                    verify=seen,
                    **(in_onnx if path.suffix == ".onnx" else in_tflite),
                )
        return {name: (self.folder / name).stat().st_size for name in step.files}

    def _plain(self) -> keras.Model:
        """Return the model without wrappers: functional, also where it was made of a Sequential in this process."""
        warn_of_remarks(self.model)
        return stripped(self.model)

    @_do.register
    def _(self, step: Report) -> dict[str, int] | None:
        assert self.data is not None
        candidates: dict[str, Any] = {}
        for name in filter(lambda each: each.endswith(".keras"), files_of(self.recipe.steps)):
            path = self.folder / name
            candidates[name] = Saved(self.saved[name], path) if name in self.saved else path
        for suffix in (".tflite", ".onnx"):
            candidates.update({name: one for name, one in self.artifacts.items() if name.endswith(suffix)})
        meant = {name: target_of(self.recipe.steps, name) for name in self.artifacts}
        said_of = {"model": self.first.name, "data": self.data.name, "division": self.data.division(), **self.about}
        self.report = compare(
            candidates,
            self.data.test.in_order(),
            baseline=step.baseline,
            threads=step.threads,
            latency=step.latency,
            layers=step.layers,
            class_names=self.data.class_names,
            target={name: target for name, target in meant.items() if target is not None},
            about={**said_of, "recipe": ", then ".join(self._configs()) or self.recipe.name},
            scans=self.scans,
        )
        self.report.to_json(self.folder / "report.json", overwrite=True)
        self.report.to_markdown(self.folder / "report.md", overwrite=True)
        self.report.save(self.folder / "report.html", overwrite=True)
        return None

    def _configs(self) -> list[str]:
        """Return what is said of each change in a report."""
        found = []
        for place, step in enumerate(self.recipe.steps):
            if isinstance(step, Transform):
                config = step.read(max(steps_after(self.recipe, place, self.data), 1))
                found.append(repr(getattr(config, "schedule", config)))
        return found

    def _metrics(self, step: Step) -> Mapping[str, Any] | None:
        """Return the metrics of the model after a step; `None` where it isn't changed, trained yet or to be judged."""
        waits = isinstance(step, Prune | Cluster) and training_after(self.recipe.steps, self.place) is not None
        if not self.evaluated or self.data is None or waits or (not isinstance(step, Load) and not is_changing(step)):
            return None
        return evaluate(self.model, self.data.test.in_order(), class_names=self.data.class_names).to_dict()
