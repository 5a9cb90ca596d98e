"""The trials of one process in a study of Optuna: each is a recipe that is run, and judged by its file."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from tfcompress.data.dataset import Dataset
from tfcompress.evaluation.compare import environment
from tfcompress.pipeline.stages import Stage, silent
from tfcompress.recipes.order import target_of
from tfcompress.recipes.recipe import Recipe
from tfcompress.recipes.runner import Run
from tfcompress.reports.tables import plain
from tfcompress.search.attempts import attempted
from tfcompress.search.judge import Judge
from tfcompress.search.killed_trials import folder_name, running, seconds_of_killed, was_killed
from tfcompress.search.optuna_storage import optuna
from tfcompress.search.report import SearchReport
from tfcompress.search.samplers import suggested
from tfcompress.search.space import SearchSpace, judged_files
from tfcompress.search.tries import TriedFile, Try

FILES, SECONDS, OUTCOME, SAME = "files", "seconds", "outcome", "same"
"""What a study knows of a trial that is done."""

CONSTRAINT = "drop beyond max_drop"


class _Repeated(Exception):
    """A trial asks for what another has found."""


@dataclasses.dataclass
class StudyTrials:
    """The trials of one process.

    Attributes:
        study: of Optuna.
        space: of the search.
        model: the float model.
        data: to train and calibrate with.
        judge: of the samples that are searched by.
        objectives: what is to be small.
        max_drop: the largest drop of interest.
        file: which file is optimized.
        folder: of the search.
        stage: surrounds each trial.
    """

    study: Any
    space: SearchSpace
    model: keras.Model
    data: Dataset
    judge: Judge
    objectives: tuple[str, ...]
    max_drop: float | None
    file: str | None
    folder: pathlib.Path
    stage: Stage

    def begun(self) -> int:
        """Return how many trials there are, those that were killed and are repeated once."""
        trials = self.study.get_trials(deepcopy=False)
        waiting = optuna().trial.TrialState.WAITING
        return sum(not was_killed(one, trials) and one.state != waiting for one in trials)

    def attempt(self) -> None:
        """Do one trial, a waiting one first."""
        states = optuna().trial.TrialState
        trial = self.study.ask()
        with running(trial, self.folder), self.stage(f"trial {trial.number}"):
            begun = time.monotonic()
            files: tuple[TriedFile, ...] = ()
            values = None
            how: dict[str, Any] = {"folder": self.folder / folder_name(trial) / "run", "stage": self._watched(trial)}
            try:
                files, outcome = attempted(lambda: self._proposed(trial), self.model, self.data, self._judged, **how)
                state = states.COMPLETE if files else states.FAIL
            except _Repeated:
                return
            except optuna().TrialPruned:
                state, outcome = states.PRUNED, "pruned"
            if files:
                best = next((one for one in files if one.path.name == self.file), files[-1])
                values = self._values(best)
                if self.max_drop is not None and best.selection is not None:
                    trial.set_constraint(CONSTRAINT, best.selection.drop - self.max_drop)
            trial.set_user_attr(FILES, [self._relative(one) for one in files])
            seconds = time.monotonic() - begun + seconds_of_killed(trial, self.study.get_trials(deepcopy=False))
            trial.set_user_attr(SECONDS, round(seconds, 1))
            trial.set_user_attr(OUTCOME, outcome)
            # Of a process that was taken for killed another has made a trial: what it found isn't told.
            with contextlib.suppress(optuna().exceptions.UpdateFinishedTrialError):
                self.study.tell(trial, values, state=state, skip_if_finished=True)

    def _proposed(self, trial: Any) -> Recipe:
        recipe = self.space.ask(lambda parameter: suggested(trial, parameter))
        if self._repeats(trial):
            raise _Repeated
        return recipe

    def _repeats(self, trial: Any) -> bool:
        """Take what a trial with the same parameters found, if there is one: a run would give the same bytes."""
        states = optuna().trial.TrialState
        done = self.study.get_trials(deepcopy=False, states=(states.COMPLETE,))
        same = next((one for one in done if one.params == trial.params), None)
        if same is not None:
            trial.set_user_attr(SAME, same.number)
            for name, value in same.constraints.items():
                trial.set_constraint(name, value)
            self.study.tell(trial, same.values)
        return same is not None

    def _values(self, file: TriedFile) -> list[float]:
        assert file.selection is not None
        return [file.selection.drop if one == "drop" else file.cost(one) for one in self.objectives]

    def _judged(self, recipe: Recipe, made: Run) -> list[TriedFile]:
        files = []
        for name in judged_files(recipe):
            path = made.artifacts[name].path
            file = TriedFile.measured(path.suffix[1:], path, None, self.judge.x, target_of(recipe.steps, name))
            said = self.judge(file.source, self.max_drop, early=self.max_drop is not None)
            files.append(dataclasses.replace(file, selection=said))
        return files

    def _relative(self, file: TriedFile) -> dict[str, Any]:
        """Return what a study keeps of a file: on another machine its folder lies elsewhere."""
        return {**plain(file.to_dict()), "path": file.path.relative_to(self.folder).as_posix()}

    def _watched(self, trial: Any) -> Stage:
        """Return a stage whose trainings tell how well they go, and end where others went better by then.

        Of one objective alone, the drop, Optuna can tell.
        """
        if self.objectives != ("drop",):
            return silent
        glance = _Glance(trial, self.judge)

        @contextlib.contextmanager
        def stage(text: str, epochs: int = 0) -> Iterator[Sequence[keras.callbacks.Callback]]:
            yield (glance,) if epochs else ()

        return stage

    def report(self, about: Mapping[str, Any], ended: str) -> SearchReport:
        """Return what all processes have tried so far."""
        states = optuna().trial.TrialState
        trials = self.study.get_trials(deepcopy=False)
        done = [one for one in trials if one.state.is_finished() and not was_killed(one, trials)]
        done = [one for one in done if SAME not in one.user_attrs]
        still = sum(one.state == states.RUNNING for one in trials)
        others = (
            f"{still} more {'is' if still == 1 else 'are'} running in other processes" if still and not ended else ""
        )
        return SearchReport(
            tries=tuple(self._try(one) for one in done),
            objectives=self.objectives,
            budget=self.max_drop,
            parameters=tuple(one.params for one in done),
            about=about,
            environment=environment(),
            ended=ended or others,
        )

    def _try(self, trial: Any) -> Try:
        known = trial.user_attrs
        files = [TriedFile.from_dict(one) for one in known.get(FILES, ())]
        # Of several files of a format the last counts, as they are rows of one table.
        here = [dataclasses.replace(one, path=self.folder / one.path) for one in files]
        last = {one.format: one for one in here if self.file is None or one.path.name == self.file}
        recipe: Mapping[str, Any] = {}
        with contextlib.suppress(KeyError, ValueError):  # one that was pruned before all was asked
            recipe = self.space.recipe(trial.params).to_dict()
        outcome = known.get(OUTCOME, "")
        return Try(folder_name(trial), recipe, tuple(last.values()), known.get(SECONDS, 0.0), outcome)


class _Glance(keras.callbacks.Callback):
    """Judges a model after each epoch, and ends a trial that does worse than the median of others did."""

    def __init__(self, trial: Any, judge: Judge):
        super().__init__()
        self.trial, self.judge, self.epochs = trial, judge, 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs += 1
        self.trial.report(self.judge(self.model).drop, self.epochs)
        if self.trial.should_prune():
            raise optuna().TrialPruned
