"""A search over the parameters of a recipe, with Optuna: several objectives, several processes and machines."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tfcompress.core.arguments import check_choice, check_count, check_model, check_number, check_several, short
from tfcompress.core.names import did_you_mean
from tfcompress.core.out_of_memory import says_memory
from tfcompress.pipeline.stages import Stage, silent
from tfcompress.pipeline.training import check_fits
from tfcompress.recipes.record import digest_of_data, digest_of_model
from tfcompress.search.for_target import check_costs
from tfcompress.search.front_proof import INTERRUPTED, Proofs, prove_front
from tfcompress.search.judge import Judge
from tfcompress.search.killed_trials import take_up
from tfcompress.search.metric import Metric, check_metric
from tfcompress.search.named_data import by_names, with_graph
from tfcompress.search.optuna_storage import open_storage, optuna
from tfcompress.search.pareto import OBJECTIVES
from tfcompress.search.report import SearchReport
from tfcompress.search.samplers import most_trials, sampler_for
from tfcompress.search.space import SearchSpace
from tfcompress.search.study_trials import StudyTrials
from tfcompress.search.validation import parts_of

FINGERPRINT = "tfcompress"
"""What a study knows of what is searched."""

SECONDS_BETWEEN = 10.0
"""Two reports, while it is going on."""

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
        model: a trained Keras model; it is not changed.
        space: a recipe in which fields are choices or ranges: a `SearchSpace`, its values, or the path of one.
        data: to train and calibrate with: `(x, y)`; what yields batches of both, which are kept; or a `Dataset`. Of a
            model with several inputs x is a dict of arrays by name, or a tuple of them in the model's order; of one
            with several outputs so is y.
        validation: likewise, other samples; `None`: the test part of a `Dataset`.
        objectives: what is to be small, one or several of "drop" (by how much the metric is worse than the float
            model's), "size" (bytes), "zip" (bytes, deflated), "latency" (ms) and "arena" (RAM of a microcontroller).
            Where the recipe exports the file for an Ethos-U, its size is the flash, its latency the time and its arena
            the SRAM that Arm's compiler Vela estimates.
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
            classes, else the mean squared error. Several outputs as in `tfcompress.compress`.
        batch_size: samples at once where files are judged.
        seed: of what is drawn.
        stage: `with stage(text, epochs) as callbacks:` surrounds each trial, for a progress bar;
            `None`: nothing is shown.
        about: what else the report says, as in `tfcompress.compare`.

    Returns:
        A `SearchReport`: `.front()`, `.tries`, `.chosen`, `.plot()`, `.save("report.html")`.

    Raises:
        FileExistsError: the study is one of another model, space or data.
        ImportError: Optuna isn't installed, or a package that a target of the recipe needs.
        ValueError: the space, the model, the data or an argument doesn't fit.
    """
    found = space if isinstance(space, SearchSpace) else _read(space)
    limits: dict[str, Any] = {"objectives": objectives, "trials": trials, "max_drop": max_drop, "seed": seed}
    wanted = _check(model, found, file=file, **limits)
    check_metric(metric)
    optuna()
    model = with_graph(model)
    parts = parts_of(by_names(model, data), by_names(model, validation), seed)
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
    settings: list[Any] = [found.to_dict(), list(wanted), max_drop, file, prover.fingerprint, seed, parts.digest]
    meant = [one.to_dict() for one in found.targets(file) if one is not None]
    settings += [meant] if meant else []  # what a cost is depends on them
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
    work = StudyTrials(study, found, model, parts.data, judge, wanted, max_drop, file, folder, stage or silent)
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
        ended = INTERRUPTED
    return _write(prove_front(work.report(told_of, ended), prover, Proofs(study)), folder)


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
    for target in space.targets(file):
        check_costs(target, given, "objectives")
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
