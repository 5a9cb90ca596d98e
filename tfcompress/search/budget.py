"""One verb from a model to files that are shown to keep a budget."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from tfcompress import targets
from tfcompress.core.arguments import check_path
from tfcompress.core.atomic_files import write_bytes
from tfcompress.core.out_of_memory import says_memory
from tfcompress.core.progress import progress as progress_bar
from tfcompress.core.transform import read
from tfcompress.data.dataset import Dataset
from tfcompress.export.artifact import Artifact
from tfcompress.export.writing import old_data
from tfcompress.pipeline.losses import loss_for
from tfcompress.pipeline.training import LEAST_STEPS, check_fits
from tfcompress.recipes.recipe import Recipe
from tfcompress.recipes.record import digest_of_data
from tfcompress.recipes.runner import run
from tfcompress.search.budget_arguments import check_arguments, check_unused
from tfcompress.search.candidates import FORMATS, MINIMIZE
from tfcompress.search.for_target import FILE, check_costs, check_target, named_in, said_of
from tfcompress.search.judge import Judge
from tfcompress.search.judgement import Judgement
from tfcompress.search.ladder import Ladder, choices_of, weighed_as
from tfcompress.search.metric import Metric, check_metric
from tfcompress.search.named_data import by_names, with_graph
from tfcompress.search.proof import prove, proven
from tfcompress.search.result import Result
from tfcompress.search.staircase import Dose, Staircase
from tfcompress.search.trials import STATE, OutOfTime, Trials
from tfcompress.search.tries import TriedFile, Try
from tfcompress.search.validation import Parts, parts_of
from tfcompress.targets import Target

MOST_TRIES = 24
"""About as many as there may be: what a bar of progress is out of."""

CALIBRATION = 512

EPOCHS = 3
"""Of a training, and more of few samples, until there are `LEAST_STEPS`."""

LEARNING_RATE = 3e-4

WRITTEN = (FILE, "model.tflite", "model.onnx", "model.keras", "report.html", "report.md", "result.json")
"""Into the folder of a search, beside its tries."""


@says_memory
def compress(
    model: keras.Model,
    recipe: Any = None,
    *,
    data: Any,
    validation: Any = None,
    max_drop: float | None = None,
    minimize: str = "size",
    formats: str | Sequence[str] | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    metric: Metric = None,
    train: bool = True,
    batch_size: int = 128,
    learning_rate: float = LEARNING_RATE,
    max_seconds: float | None = None,
    seed: int = 0,
    progress: bool = True,
    target: str | os.PathLike[str] | Target | None = None,
) -> Result:
    """Compress a model as far as a budget allows, or as a recipe says, and ship files that are shown to keep it.

    A third of `validation`, drawn by the seed, is what the search chooses by. On the other two thirds, that nothing was
    chosen by, the files that it found are judged in their runtime, from the largest to the smallest, and the last that
    is shown to drop by at most `max_drop` is shipped: were it not to hold, that would be said in one of 20 searches at
    most, for each format, however often the search goes on (docs/budgets.md). A file that isn't shown to hold isn't
    shipped.

    Args:
        model: a trained Keras model that isn't quantized; it is not changed.
        recipe: what to do, in place of a search: a `Recipe`, the name of one, or a path; with `max_drop` its files are
            judged by it, and without they are shipped as they are, with the interval of their drop. `formats`,
            `minimize`, `train`, `learning_rate`, `max_seconds` and `target` are for a search only; a recipe has its own
            seed, and says itself what each file is for.
        data: to train and calibrate with: `(x, y)`; a `tf.data.Dataset` of batches of both, which is read anew for each
            epoch, so that what it draws at random is drawn anew, too; what else yields batches, which are kept; or a
            `Dataset`. Of a model with several inputs x is a dict of arrays by name, or a tuple of them in the model's
            order; of one with several outputs so is y.
        validation: likewise, other samples, which are kept; `None`: the test part of a `Dataset`.
        max_drop: by how much the metric may be worse than the float model's: in points (hundredths) of accuracy and
            other shares, else in its own unit.
        minimize: "size", bytes of a file, or for an Ethos-U the flash that it takes; "zip", its bytes when it is
            deflated; "latency", ms of one inference here, or of an Ethos-U; or "arena", bytes of RAM of a
            microcontroller. What an Ethos-U needs is estimated by Arm's compiler Vela.
        formats: "tflite", "onnx" or both; each is searched, judged and shipped by itself. `None`: both, or those of the
            target.
        output_dir: where everything goes: `model.tflite`, `model.onnx`, `model.keras`, `report.html`, `result.json` and
            a folder of tries; of a recipe what it exports, and `budget.html`. The same call goes on with what lies
            there. `None`: a new folder for temporary files.
        metric: "accuracy", "mse", "mae"; or a function from (y, outputs) to one value for each sample, of which more is
            better: True and False (or 0 and 1) count in points, other numbers in their own unit. `None`: accuracy of
            classes, else the mean squared error. Of several outputs y and outputs are dicts by their names; without a
            function each output has to keep the budget, and they have to be of one kind.
        train: whether models may be trained, on what the float model says, where calibration isn't enough.
        batch_size: samples per training step.
        learning_rate: Adam's at the beginning of a training.
        max_seconds: of the search, all calls together; it then ends with what it has found. `None`: no limit.
        seed: of everything that is random.
        progress: whether a bar shows what is tried, on a terminal.
        target: what the files are for, as in `tfcompress.export`: only what it can do is tried, each file is judged in
            the runtime that proves such files, and costs are those of the machine. `None`: not said.

    Returns:
        A `Result`: `.artifacts` by format, `.interval`, `.model`, `.tries`, `.report`. If Ctrl-C interrupts a search it
        holds what was found so far. A recipe that is interrupted raises KeyboardInterrupt; the same call goes on at its
        step. Where a recipe exports several files of one format, these have their names for a format: "a.onnx".

    Raises:
        TypeError: `model` is no Keras model.
        ImportError: a package that the target needs isn't installed.
        ValueError: the model, the data or the target doesn't fit; an argument has no effect with a recipe; over 1 % of
            the validation samples are in `data`, too, beyond what repeats by chance; there are too few to show the
            budget, and the message says how many it takes; or an argument is out of its range.
        FileExistsError: `output_dir` holds another search.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> keras.utils.set_random_seed(0)
    >>> x = np.random.default_rng(0).normal(size=(1400, 8)).astype("float32")
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="logits")])
    >>> y = model.predict(x, verbose=0).argmax(1)
    >>> result = tfc.compress(
    ...     model, data=(x[:200], y[:200]), validation=(x[200:], y[200:]), max_drop=2, formats="tflite", train=False
    ... )
    >>> result.holds, result.judgements["tflite"].verdict
    (True, 'holds')
    """
    numbers = {"batch_size": batch_size, "learning_rate": learning_rate, "max_seconds": max_seconds, "seed": seed}
    if recipe is None and max_drop is None:
        raise ValueError(
            "Expected max_drop, by how much the metric may be worse, such as 0.5 points; or a recipe. Received: "
            "neither."
        )
    machine = None if target is None else targets.get(target)
    forms = check_arguments(model, formats, minimize, max_drop, machine, **numbers)
    if recipe is not None:
        check_unused(
            target=(None, target),
            formats=(FORMATS, forms if set(forms) != set(FORMATS) else FORMATS),
            minimize=(MINIMIZE[0], minimize),
            train=(True, train),
            learning_rate=(LEARNING_RATE, learning_rate),
            max_seconds=(None, max_seconds),
        )
    check_metric(metric)
    model = with_graph(model)
    if recipe is None:
        check_costs(machine, (minimize,), "minimize")
        if machine is not None:
            check_target(machine, model, forms)
    if recipe is not None and not isinstance(recipe, Recipe):
        recipe = Recipe.read(check_path(recipe))
    parts = parts_of(by_names(model, data, anew=True), by_names(model, validation), seed)
    if recipe is not None:
        parts = parts.whole()
    check_fits(model, parts.data)
    names = parts.data.class_names
    prover = Judge(model, parts.proof, metric, class_names=names, batch_size=batch_size)
    if max_drop is not None:
        advice = "" if recipe else " A third of validation is what a search chooses by; the rest is what shows it."
        if parts.copies:
            advice += f" Copies count once: {parts.copies:,} were left out."
        prover.check_budget(max_drop, advice=advice, share=1 if recipe else prover.samples / parts.samples)
    judge = Judge(model, parts.selection, metric, class_names=names, batch_size=batch_size)
    folder = _folder(None if output_dir is None else check_path(output_dir), target, searched=recipe is None)
    meant = None if target is None else named_in(folder, target)
    settings: list[Any] = [max_drop, minimize, forms, prover.fingerprint, train, batch_size, learning_rate, seed]
    settings += [] if machine is None else [machine.to_dict()]
    digest = _digest(model, parts, settings)
    trials = Trials(
        model=model,
        data=parts.data,
        judge=judge,
        proof_samples=prover.samples,
        budget=math.inf if max_drop is None else max_drop,
        minimize=minimize,
        formats=forms,
        folder=folder,
        seed=seed,
        digest=digest,
        max_seconds=math.inf if max_seconds is None else max_seconds,
        target=meant,
        about={
            "model": model.name,
            "data": parts.data.name,
            **({} if machine is None else {"target": said_of(machine)}),
            "division": f"{parts.data.train.samples:,} samples to train with, {judge.samples:,} to choose by, "
            f"{prover.samples:,} to prove on"
            + (f"; {parts.copies:,} are copies of others, and left out" if parts.copies else ""),
        },
    )
    if recipe is not None:
        return _of_recipe(recipe, trials, prover)
    if isinstance(target, Target) and meant not in targets.names():
        trials.save()  # from here on the folder is of this search
        target.save(folder / FILE, overwrite=True)
    dose = _dose(parts.data, batch_size, learning_rate) if train else None
    inputs = parts.data.train.drawn(CALIBRATION, seed)
    trials.said = lambda _: _reported(trials).report.to_markdown(folder / "report.md", overwrite=True)
    with _shown(trials, progress):
        rungs = Ladder(
            *(model, inputs, loss_for(model, parts.data), weighed_as(machine, forms), seed),
            told=lambda remark: _remark(trials, remark),
            choices=choices_of(machine),
        )
        ended = _ended(trials, Staircase(trials, dose, inputs, rungs, machine).climb)
        return _shipped(trials, prover, ended)


def _dose(data: Dataset, batch_size: int, learning_rate: float) -> Dose:
    steps = max(1, data.train.samples // batch_size)
    return Dose(max(EPOCHS, math.ceil(LEAST_STEPS / steps)), batch_size, learning_rate)


def _folder(output_dir: str | os.PathLike[str] | None, target: Any, *, searched: bool) -> pathlib.Path:
    if output_dir is None:
        return pathlib.Path(tempfile.mkdtemp(prefix="tfcompress-"))
    folder = pathlib.Path(output_dir)
    written = [name for name in WRITTEN if name != FILE or isinstance(target, Target)]
    there = [name for name in written if (folder / name).exists()]
    if searched and there and not (folder / STATE).exists():
        raise FileExistsError(
            f"Expected a folder without {', '.join(there)}, or one of this very search. Received: {folder}. Name "
            "another output_dir."
        )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _digest(model: keras.Model, parts: Parts, settings: Sequence[Any]) -> str:
    """Return what tells this search from others."""
    found = hashlib.sha256(json.dumps([parts.digest, digest_of_data(parts.data), *settings]).encode())
    for weight in model.weights:
        found.update(np.ascontiguousarray(read(weight)).tobytes())
    return found.hexdigest()


@contextlib.contextmanager
def _shown(trials: Trials, progress: bool) -> Iterator[None]:
    with progress_bar(MOST_TRIES) if progress else contextlib.nullcontext(lambda _: None) as show:
        trials.begin = show
        yield


def _ended(trials: Trials, part: Callable[[], object]) -> str:
    """Do a part of a search; return why it ended before it was done, "" if it was."""
    try:
        part()
    except OutOfTime:
        return "out of time"
    except KeyboardInterrupt:
        return "interrupted"
    finally:
        trials.end()
    return ""


def _remark(trials: Trials, remark: str) -> None:
    """Let reports say what became of widths below int8."""
    trials.about = {**trials.about, "below int8": remark}


def _of_recipe(recipe: Recipe, trials: Trials, prover: Judge) -> Result:
    """Run a recipe and judge its files on all samples: nothing is chosen."""
    budget = None if trials.budget == math.inf else trials.budget
    done = run(recipe, trials.model, trials.data, folder=trials.folder)
    tried = trials.judged(recipe, done, prover, budget)
    kept = {file.format: file for file in tried.files if file.proof and file.proof.verdict in ("holds", "no budget")}
    artifacts = dict(zip((file.format for file in tried.files), done.artifacts.values(), strict=True))
    result = _reported(
        trials,
        artifacts={form: artifact for form, artifact in artifacts.items() if form in kept},
        judgements={form: file.proof for form, file in kept.items() if file.proof is not None},
        tries=(tried,),
        formats=tuple(file.format for file in tried.files),
        model_path=tried.model,
        about={**trials.about, "recipe": recipe.name},
    )
    result.write("budget")  # a recipe may have a report of its own
    return result


def _reported(trials: Trials, **found: Any) -> Result:
    """Return a result of the tries that there are, and of what else was found."""
    given: dict[str, Any] = {"artifacts": {}, "judgements": {}, "tries": tuple(trials.tries), "about": trials.about}
    given["formats"] = trials.formats
    return Result(
        budget=None if trials.budget == math.inf else trials.budget,
        minimize=trials.minimize,
        folder=trials.folder,
        **{**given, **found},
    )


def _shipped(trials: Trials, prover: Judge, ended: str) -> Result:
    artifacts: dict[str, Artifact] = {}
    judgements: dict[str, Judgement] = {}
    model = None
    ended = _ended(trials, lambda: [prove(trials, prover, form) for form in trials.formats]) or ended
    for form in trials.formats:
        file = proven(trials, form)
        if file is None:
            target = trials.folder / f"model.{form}"  # of an earlier call
            for name in (*old_data(target), target.name):
                (trials.folder / name).unlink(missing_ok=True)
            continue
        assert file.proof is not None
        path = file.copied(trials.folder / f"model.{form}")
        machine = None if trials.target is None else targets.get(trials.target)
        artifacts[form], judgements[form] = Artifact.open(path, machine), file.proof
        model = model or _model_of(trials.tries, file)
    if model is not None:
        model = write_bytes(trials.folder / "model.keras", model.read_bytes())
    else:
        (trials.folder / "model.keras").unlink(missing_ok=True)
    result = _reported(trials, artifacts=artifacts, judgements=judgements, model_path=model, ended=ended)
    result.write()
    return result


def _model_of(tries: Sequence[Try], file: TriedFile) -> pathlib.Path | None:
    return next((one.model for one in tries if file in one.files), None)
