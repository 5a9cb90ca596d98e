"""A search over the parameters of a recipe, with Optuna: several objectives, several processes and machines."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras

from tfcompress.core.arguments import check_choice, check_count, check_model, check_number, check_several, short
from tfcompress.core.error_messages import told
from tfcompress.core.names import did_you_mean
from tfcompress.core.out_of_memory import says_memory
from tfcompress.data.dataset import Dataset
from tfcompress.evaluation.compare import environment
from tfcompress.pipeline.stages import Stage, silent
from tfcompress.pipeline.training import check_fits
from tfcompress.recipes.record import digest_of_data, digest_of_model
from tfcompress.recipes.runner import run
from tfcompress.reports.tables import plain
from tfcompress.search.judge import Judge
from tfcompress.search.killed_trials import folder_name, running, take_up, was_killed
from tfcompress.search.metric import Metric, check_metric
from tfcompress.search.optuna_storage import open_storage, optuna
from tfcompress.search.pareto import OBJECTIVES
from tfcompress.search.report import SearchReport
from tfcompress.search.samplers import most_trials, sampler_for, suggested
from tfcompress.search.space import SearchSpace, judged_files
from tfcompress.search.tries import TriedFile, Try
from tfcompress.search.validation import parts_of, single

FINGERPRINT = "tfcompress"
"""What a study knows of what is searched."""

FILES, SECONDS, OUTCOME, SAME = "files", "seconds", "outcome", "same"
"""What a study knows of a trial that is done."""

SECONDS_BETWEEN = 10.0
"""Two reports, while it is going on."""

CONSTRAINT = "drop beyond max_drop"

WRITTEN = ("report.html", "report.md", "report.json")


@says_memory
def search(
    model: keras.Model,
    space: SearchSpace | Mapping[str, Any] | str | os.PathLike[str],
    *,
    data: Any,
    validation: Any = None,
    objectives: Sequence[str] = ("drop", "size"),
    trials: int = 50,
    max_drop: float | None = None,
    file: str | None = None,
    output_dir: str | os.PathLike[str],
    storage: Any = None,
    name: str | None = None,
    sampler: Any = None,
    metric: Metric = None,
    batch_size: int = 32,
    seed: int = 0,
    stage: Stage | None = None,
    about: Mapping[str, Any] | None = None,
) -> SearchReport:
    """Search the parameters of a recipe for files that none other beats, with Optuna (docs/search.md).

    The same call in another process, or on another machine with the same `storage`, joins in; a trial whose process was
    killed is taken up by the others, or by the same call again. Each trial is a run of a recipe in a folder of its own.
    A third of `validation`, drawn by the seed, is what is searched by; the files of the front are judged on the rest,
    those that lie on this machine: the outcome of a try says where one doesn't.

    Args:
        model: a trained Keras model with one input and one output; it is not changed.
        space: a recipe in which fields are choices or ranges: a `SearchSpace`, its values, or the path of one.
        data: to train and calibrate with: `(x, y)`; what yields batches of both, which are kept; or a `Dataset`.
        validation: likewise, other samples; `None`: the test part of a `Dataset`.
        objectives: what is to be small, one or several of "drop" (by how much the metric is worse than the float
            model's), "size" (bytes), "zip" (bytes, deflated) and "latency" (ms).
        trials: how many there are to be, those of all processes and of earlier calls together; of a space of at most
            64 recipes each is tried once.
        max_drop: the largest drop of interest, in points of shares, else in the metric's own unit: judging ends early
            where a file is worse, the search keeps away from such, and the smallest file is chosen that is shown to
            keep it, by the first of the objectives that is a cost, else by bytes, whatever else is to be small.
        file: which of the recipe's files is optimized; `None`: the last `.tflite` or `.onnx` file.
        output_dir: where all goes: a folder for each trial, `report.html`, `report.md`, `report.json`.
        storage: where the study is kept: a `.journal` file; the address of a database, "sqlite:///search.db", or of
            Optuna's server, "grpc://host:port"; or a storage of Optuna. `None`: a journal in `output_dir`.
        name: of the study; `None`: that of the recipe.
        sampler: of Optuna; `None`: TPE, seeded anew for each trial.
        metric: "accuracy", "mse", "mae"; or a function from (y, outputs) to one value for each sample, of which more is
            better: True and False (or 0 and 1) count in points, other numbers in their own unit. `None`: accuracy of
            classes, else the mean squared error.
        batch_size: samples at once where files are judged.
        seed: of what is drawn.
        stage: `with stage(text, epochs) as callbacks:` surrounds each trial, for a progress bar;
            `None`: nothing is shown.
        about: what else the report says, as in `tfcompress.compare`.

    Returns:
        A `SearchReport`: `.front()`, `.tries`, `.chosen`, `.plot()`, `.save("report.html")`.

    Raises:
        FileExistsError: the study is one of another model, space or data.
        ImportError: Optuna isn't installed.
        ValueError: the space, the model, the data or an argument doesn't fit.
    """
    found = space if isinstance(space, SearchSpace) else _read(space)
    limits: dict[str, Any] = {"objectives": objectives, "trials": trials, "max_drop": max_drop, "seed": seed}
    wanted = _check(model, found, file=file, **limits)
    check_metric(metric)
    optuna()
    parts = parts_of(single(model, data), single(model, validation), seed)
    check_fits(model, parts.data)
    how: dict[str, Any] = {"class_names": parts.data.class_names, "batch_size": batch_size}
    judge = Judge(model, parts.selection, metric, **how)
    prover = Judge(model, parts.proof, metric, **how)
    if max_drop is not None:
        share = prover.samples / (prover.samples + judge.samples)
        advice = " A third of validation is what is searched by."
        if parts.copies:
            advice += f" Copies count once: {parts.copies:,} were left out."
        prover.check_budget(max_drop, advice=advice, share=share)
    folder = pathlib.Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    settings = [found.to_dict(), list(wanted), max_drop, file, prover.fingerprint, seed, parts.digest]
    digest = hashlib.sha256(json.dumps(settings).encode())
    digest.update((digest_of_model(model) + digest_of_data(parts.data)).encode())
    count = min(trials, most_trials(found) or trials)
    earlier = sorted(folder.glob("trial-*"))
    study = _open(
        open_storage(storage, folder),
        name or found.name,
        digest.hexdigest(),
        objectives=wanted,
        sampler=sampler or sampler_for(found, seed),
    )
    if earlier and not study.get_trials(deepcopy=False):
        raise FileExistsError(
            f"Expected output_dir to be empty, or of this study. Received: {folder}, with {earlier[0].name} of "
            "another. Name another folder."
        )
    work = _Work(study, found, model, parts.data, judge, wanted, max_drop, file, folder, stage or silent)
    told_of = {"model": model.name, "data": parts.data.name, **(about or {})}
    if parts.copies:
        told_of["copies"] = f"{parts.copies:,} of the validation samples are copies of others, and left out"
    written = time.monotonic()
    ended = ""
    try:
        while True:
            take_up(study, folder)
            if work.begun() >= count:
                break
            work.attempt()
            if time.monotonic() - written > SECONDS_BETWEEN:
                _write(work.report(told_of, "it is going on"), folder)
                written = time.monotonic()
    except KeyboardInterrupt:
        ended = "interrupted; the same call goes on with it"
    return _write(_proved(work.report(told_of, ended), prover), folder)


def _write(report: SearchReport, folder: pathlib.Path) -> SearchReport:
    report.save(folder / "report.html", overwrite=True)
    report.to_markdown(folder / "report.md", overwrite=True)
    report.to_json(folder / "report.json", overwrite=True)
    return report


def _read(space: Any) -> SearchSpace:
    if isinstance(space, Mapping):
        return SearchSpace(space)
    if not isinstance(space, str | os.PathLike):
        raise TypeError(f"Expected space to be a tfcompress.SearchSpace, or the path of one. Received: {short(space)}.")
    return SearchSpace.read(space)


def _check(
    model: Any, space: SearchSpace, *, objectives: Any, trials: Any, max_drop: Any, file: Any, seed: Any
) -> tuple[str, ...]:
    check_model(model)
    given = (objectives,) if isinstance(objectives, str) else objectives
    check_several("objectives", given, '["drop", "size"]')
    for one in given:
        check_choice("objectives", one, OBJECTIVES)
    check_count("trials", trials)
    check_count("seed", seed, 0, 2**32 - 1)
    if max_drop is not None:
        check_number("max_drop", max_drop, 0, above=True)
    names = space.file_names()
    if file is not None and file not in names:
        raise ValueError(
            f"Expected file to be one that every recipe of the space exports: {', '.join(names)}. Received: {file!r}."
            f"{did_you_mean(file, names)}"
        )
    return tuple(dict.fromkeys(given))


def _open(storage: Any, name: str, digest: str, *, objectives: Sequence[str], sampler: Any) -> Any:
    """Return the study of a name, a new one if there is none; refuse one of something else."""
    package = optuna()
    package.logging.set_verbosity(package.logging.WARNING)
    ways = ["minimize"] * len(objectives)
    study = package.create_study(
        storage=storage, study_name=name, sampler=sampler, directions=ways, load_if_exists=True
    )
    known = study.user_attrs.get(FINGERPRINT)
    trials = study.get_trials(deepcopy=False)
    if known not in (None, digest) or (known is None and trials) or len(study.directions) != len(ways):
        raise FileExistsError(
            f"Expected a study of this model, space, data and these settings, to go on with. Received: {name!r}, "
            f"where {'something else' if known else 'another program'} was searched, with {len(trials)} trials. Give "
            "another name, or another storage."
        )
    if known is None:
        study.set_user_attr(FINGERPRINT, digest)
    return study


@dataclasses.dataclass
class _Work:
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
            files: list[TriedFile] = []
            try:
                recipe = self.space.ask(lambda parameter: suggested(trial, parameter))
                if self._repeats(trial):
                    return
                place = self.folder / folder_name(trial)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of a proposal that nobody made
                    made = run(recipe, self.model, self.data, folder=place / "run", stage=self._watched(trial))
                names = judged_files(recipe)
                files = [self._judged(made.artifacts[name].path) for name in names]
                best = files[names.index(self.file) if self.file else -1]
                values, state, outcome = self._values(best), states.COMPLETE, ""
                if self.max_drop is not None and best.selection is not None:
                    trial.set_constraint(CONSTRAINT, best.selection.drop - self.max_drop)
            except optuna().TrialPruned:
                values, state, outcome = None, states.PRUNED, "pruned"
            except (ValueError, RuntimeError, FloatingPointError) as error:
                values, state, outcome = None, states.FAIL, f"failed: {type(error).__name__}: {told(error)}"
            trial.set_user_attr(FILES, [self._relative(one) for one in files])
            trial.set_user_attr(SECONDS, round(time.monotonic() - begun, 1))
            trial.set_user_attr(OUTCOME, outcome)
            # Of a process that was taken for killed another has made a trial: what it found isn't told.
            with contextlib.suppress(optuna().exceptions.UpdateFinishedTrialError):
                self.study.tell(trial, values, state=state, skip_if_finished=True)

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

    def _judged(self, path: pathlib.Path) -> TriedFile:
        said = self.judge(path, self.max_drop, early=self.max_drop is not None)
        return TriedFile.measured(path.suffix[1:], path, said, self.judge.x)

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


def _proved(report: SearchReport, judge: Judge) -> SearchReport:
    """Return a report in which files of the front are judged on samples that nothing was searched by.

    With a budget, those that none beats in both the drop and the cost come first, whatever the objectives are, from the
    largest cost to the smallest, until one isn't shown to keep it; the last before it is chosen. Each is tested at the
    full level: the first that breaks the budget is said to keep it with a probability of at most 5 %, and none behind
    it is reached before (W. Maurer et al., 1995). Of a file that lies on another machine the outcome of its try says
    that it wasn't judged here.
    """
    tries, chosen = list(report.tries), {}
    for form in report.formats:
        tested = (
            [] if report.budget is None else dataclasses.replace(report, objectives=("drop", report.cost)).front(form)
        )
        holds = True
        for place in dict.fromkeys((*tested, *report.front(form))):
            file = tries[place].file(form)
            assert file is not None
            if not file.path.exists():
                said = f"{file.path.name} lies on another machine: not judged on the rest of validation"
                outcome = "; ".join(filter(None, (tries[place].outcome, said)))
                tries[place] = dataclasses.replace(tries[place], outcome=outcome)
                continue
            proof = judge(file.path, report.budget)
            files = tuple(dataclasses.replace(one, proof=proof) if one is file else one for one in tries[place].files)
            tries[place] = dataclasses.replace(tries[place], files=files)
            holds = holds and proof.verdict == "holds"
            if holds and place in tested:
                chosen[form] = place
    return dataclasses.replace(report, tries=tuple(tries), chosen=chosen)
