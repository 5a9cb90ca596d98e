"""Trials of a search: drawn by a seed, shared by processes, taken up where they were killed."""

from __future__ import annotations

import datetime
import json
import shutil
import signal
import subprocess
import sys
import time
import types

import keras
import pytest

import tfcompress as tfc
from tests.check import ON_TENSORFLOW
from tests.search import small_search
from tfcompress.search import attempts, killed_trials, samplers
from tfcompress.search.front_proof import Proofs, prove_front
from tfcompress.search.judgement import Judgement
from tfcompress.search.killed_trials import LOCK
from tfcompress.search.optuna_storage import open_storage
from tfcompress.search.report import SearchReport
from tfcompress.search.study import search
from tfcompress.search.tries import TriedFile, Try

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.skipif(not ON_TENSORFLOW, reason="exports")

EXPORT = {"step": "export", "files": ["a.onnx"]}
FINITE = {"name": "finite", "steps": [{"step": "quantize", "config": {"choice": ["int8", "int8_weights"]}}, EXPORT]}


@pytest.fixture(scope="module")
def made():
    return small_search.inputs()


@pytest.fixture(scope="module")
def files(made, tmp_path_factory):
    """The files of the float model, and of one that is pruned to pieces."""
    folder = tmp_path_factory.mktemp("files")
    good = tfc.export(made[0], folder / "good.onnx").path
    return good, tfc.export(tfc.prune_once(made[0], 0.9), folder / "bad.onnx").path


@pytest.fixture
def quick(monkeypatch, files):
    """A run that takes a file that is there: a good one up to half of the zeros; the recipes that were run."""
    recipes = []

    def run(recipe, model, data, *, folder, **how):
        recipes.append(recipe)
        sparsity = getattr(recipe.steps[0], "config", 0)
        folder.mkdir(parents=True)
        path = shutil.copy(files[sparsity > 0.5 if isinstance(sparsity, float) else 0], folder / "a.onnx")
        return types.SimpleNamespace(artifacts={"a.onnx": types.SimpleNamespace(path=folder / "a.onnx"), "": path})

    monkeypatch.setattr(attempts, "run", run)
    return recipes


def tried(made, folder, trials=6, space=small_search.SPACE, **how):
    model, data, validation = made
    return search(model, space, data=data, validation=validation, output_dir=folder, trials=trials, **how)


def parameters(report):
    return [dict(one) for one in report.parameters]


def kill_after(monkeypatch, calls):
    """Let the process "be killed" in the trial after so many: its lock is free, and the study knows nothing of it."""
    run = attempts.run

    def killed(recipe, *args, **how):
        if not calls.pop():
            raise SystemExit
        return run(recipe, *args, **how)

    monkeypatch.setattr(attempts, "run", killed)


def test_a_search_ends_with_files_that_none_beats(made, tmp_path):
    report = tried(made, tmp_path, trials=2)
    (one, two) = (each.file("onnx") for each in report.tries)
    assert one.path == tmp_path / "trial-0000" / "run" / "a.onnx"
    assert (one.nbytes, two.selection.samples) == (one.path.stat().st_size, 400)
    assert report.front() and all(report.tries[place].file("onnx").proof.samples == 800 for place in report.front())
    assert tfc.Recipe.read(tmp_path / "trial-0000" / "run" / "recipe.yaml").to_dict() == report.tries[0].recipe
    assert all((tmp_path / name).exists() for name in ("report.html", "report.md", "report.json"))
    quantized = [each.recipe["steps"][1]["config"]["weights"]["bits"] for each in report.tries]
    assert quantized == [each["quantize.config.weights.bits"] for each in report.parameters]


def test_the_same_seed_gives_the_same_trials_killed_or_not(made, quick, tmp_path, monkeypatch):
    whole = tried(made, tmp_path / "a")
    assert len({json.dumps(one) for one in parameters(whole)}) == 6
    with monkeypatch.context() as patched:
        kill_after(patched, [False, True, True])
        with pytest.raises(SystemExit):
            tried(made, tmp_path / "b")
    resumed = tried(made, tmp_path / "b")
    assert parameters(resumed) == parameters(whole)
    assert [one.name[-1] for one in resumed.tries] == ["0", "1", "2", "4", "5", "6"]  # 3 is 2, again, in its folder
    other = tried(made, tmp_path / "c", seed=1)
    assert parameters(other) != parameters(whole)


def test_what_runs_elsewhere_is_left_alone_until_it_is_silent(made, quick, tmp_path, monkeypatch):
    tried(made, tmp_path, trials=1)
    storage = open_storage(None, tmp_path)
    there = optuna.load_study(study_name="small", storage=storage)
    trial = there.ask()
    with killed_trials.running(trial, tmp_path):  # here, and alive
        report = tried(made, tmp_path, trials=2)
    assert len(report.tries) == 1
    assert report.ended == "1 more is running in other processes"
    trial.set_user_attr(killed_trials.HOST, "another machine")
    assert len(tried(made, tmp_path, trials=2).tries) == 1
    monkeypatch.setattr(killed_trials, "SILENCE", 0.0)
    assert [one.name for one in tried(made, tmp_path, trials=2).tries] == ["trial-0000", "trial-0001"]
    assert (tmp_path / "trial-0001" / LOCK).exists()


def test_of_a_small_space_each_recipe_is_tried_once(made, quick, tmp_path):
    report = tried(made, tmp_path, trials=9, space=FINITE)
    assert sorted(one["quantize.config"] for one in report.parameters) == ["int8", "int8_weights"]


def test_what_was_tried_is_not_run_again(made, quick, tmp_path, monkeypatch):
    monkeypatch.setattr(samplers, "EACH", 1)
    report = tried(made, tmp_path, trials=9, space=FINITE)
    assert len(report.tries) == len(quick) == 2


def test_a_budget_is_shown_on_other_samples(made, quick, tmp_path):
    report = tried(made, tmp_path, max_drop=2.0, objectives="size", trials=4)
    verdicts = {one.file("onnx").selection.verdict for one in report.tries}
    assert verdicts == {"holds", "broken"}
    chosen = report.tries[report.chosen["onnx"]].file("onnx")
    assert (chosen.proof.verdict, chosen.proof.samples) == ("holds", 800)
    broken = next(one.file("onnx") for one in report.tries if one.file("onnx").selection.verdict == "broken")
    assert broken.selection.stopped and broken.selection.samples < 400
    with pytest.raises(ValueError, match="Expected at least .* samples to judge by"):
        tried(made, tmp_path / "b", max_drop=0.1)


@pytest.mark.parametrize("objectives", [("size",), ("drop", "size"), ("size", "latency"), ("drop",)])
def test_the_smallest_is_chosen_that_is_shown_to_keep_a_budget_whatever_the_objectives(tmp_path, objectives):
    """Of five, the second beats the first, the smallest aren't shown to keep it, and one isn't here."""
    tries = []
    for place, (nbytes, ms, drop) in enumerate(
        [(900, 1.0, 0.5), (800, 2.0, 0.1), (600, 9.0, 0.3), (500, 5.0, 0.4), (100, 3.0, 0.9)]
    ):
        path = tmp_path / f"{place}.onnx"
        if place != 3:
            path.touch()
        said = judgement(drop, "not shown")
        tries.append(Try(str(place), {}, (TriedFile("onnx", path, nbytes, nbytes, ms, said),)))
    judge = Judge({name: judgement(0.2, "holds" if name in "12" else "not shown") for name in "01234"})
    report = prove_front(SearchReport(tuple(tries), objectives, budget=1.0), judge, Proofs(optuna.create_study()))
    assert report.chosen == {"onnx": 2}
    assert judge.judged[:3] == ["1", "2", "4"]
    assert all(report.tries[place].file("onnx").proof for place in report.front() if place != 3)
    assert [one.outcome for one in report.tries if one.outcome] == [
        "3.onnx lies on another machine: not judged on the rest of validation"
    ]
    assert "3.onnx lies on another machine" in report.table(width=240)


def test_a_proof_that_is_interrupted_chooses_what_was_shown_until_then(tmp_path):
    tries = []
    for place, nbytes in enumerate((900, 800)):
        path = tmp_path / f"{place}.onnx"
        path.touch()
        tries.append(Try(str(place), {}, (TriedFile("onnx", path, nbytes, selection=judgement(place / 10, "holds")),)))
    judge, proofs = Judge({"0": judgement(0.2, "holds"), "1": KeyboardInterrupt()}), Proofs(optuna.create_study())
    report = prove_front(SearchReport(tuple(tries), budget=1.0), judge, proofs)
    assert (report.chosen, judge.judged) == ({"onnx": 0}, ["0", "1"])
    assert report.ended == "interrupted; the same call goes on with it"
    judge.said["1"] = judgement(0.9, "not shown")
    report = prove_front(SearchReport(tuple(tries), budget=1.0), judge, proofs)
    assert (report.chosen, judge.judged, report.ended) == ({"onnx": 0}, ["0", "1", "1"], "")


class Judge:
    """Says of files what is given, by their names, and keeps in which order it was asked."""

    samples = 4000

    def __init__(self, said):
        self.said, self.judged = said, []

    def __call__(self, path, budget):
        self.judged.append(path.stem)
        said = self.said[path.stem]
        if isinstance(said, BaseException):
            raise said
        return said


def test_the_seconds_of_killed_trials_count():
    begun = datetime.datetime(2026, 1, 1)
    known = {killed_trials.ALIVE: begun.timestamp() + 40}
    killed = types.SimpleNamespace(number=3, user_attrs=known, datetime_start=begun)
    silent = types.SimpleNamespace(number=5, user_attrs={killed_trials.AGAIN: 3}, datetime_start=begun)
    again = types.SimpleNamespace(number=7, user_attrs={killed_trials.AGAIN: 3}, datetime_start=begun)
    other = types.SimpleNamespace(number=4, user_attrs=known, datetime_start=begun)
    assert killed_trials.seconds_of_killed(again, [killed, other, silent, again]) == 40


def judgement(drop, verdict):
    return Judgement("accuracy", 0.9, 0.9 - drop / 100, drop, (drop - 0.1, drop + 0.1), 400, verdict, budget=1.0)


def test_trials_that_fail_are_told_of(made, quick, tmp_path, monkeypatch):
    def run(*args, **how):
        raise ValueError("no <kernel>")

    monkeypatch.setattr(attempts, "run", run)
    report = tried(made, tmp_path, trials=2)
    assert report.verdict == "None of 2 tries made a file."
    assert {one.outcome for one in report.tries} == {"failed: ValueError: no <kernel>"}


def test_one_objective_ends_trainings_that_go_worse(made, tmp_path):
    steps = [{"step": "finetune", "epochs": 2, "learning_rate": {"choice": [1e-5, 10.0]}}, EXPORT]
    report = tried(made, tmp_path, space={"name": "rates", "steps": steps}, objectives=["drop"], trials=2)
    assert len(report.tries) == 2
    there = optuna.load_study(study_name="rates", storage=open_storage(None, tmp_path))
    assert all(list(one.intermediate_values) == [1, 2] for one in there.trials)


def test_others_are_refused_before_any_work(made, quick, tmp_path):
    tried(made, tmp_path / "a", trials=1)
    for how, error, message in (
        ({"folder": tmp_path / "a", "seed": 2}, FileExistsError, "Expected a study of this model, space, data"),
        ({"folder": tmp_path / "a", "name": "other"}, FileExistsError, "Expected output_dir to be empty"),
        ({"objectives": ["speed"]}, ValueError, "Expected objectives"),
        ({"trials": 0}, ValueError, "Expected trials"),
        ({"file": "b.onnx"}, ValueError, r"every recipe of the space exports: a.onnx. Received: 'b.onnx'"),
        ({"storage": "study.db"}, ValueError, "Expected storage to be a file such as search.journal"),
        ({"storage": "nonsense://a"}, ValueError, "which can't be opened"),
        ({"storage": "grpc://localhost"}, ValueError, "without a host and a port"),
        ({"storage": tmp_path / "none" / "a.journal"}, NotADirectoryError, "make .* first"),
        ({"space": 3}, TypeError, "Expected space to be a tfcompress.SearchSpace"),
    ):
        with pytest.raises(error, match=message):
            tried(made, **{"folder": tmp_path / "b", **how})
    assert len(quick) == 1


def test_a_study_for_a_target_that_has_changed_since_is_another(made, quick, tmp_path):
    file = tmp_path / "mine.yaml"
    server = tfc.targets.get("server-cpu")
    server.replace(name="mine").save(file)
    space = {**FINITE, "steps": [FINITE["steps"][0], {**EXPORT, "target": str(file)}]}
    tried(made, tmp_path / "a", trials=1, space=space)
    tried(made, tmp_path / "a", trials=1, space=space)
    server.replace(name="mine", batch=1).save(file, overwrite=True)
    with pytest.raises(FileExistsError, match="Expected a study of this model, space"):
        tried(made, tmp_path / "a", trials=1, space=space)


def test_the_package_is_asked_for(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'tfcompress\[search\]'"):
        tried(made, tmp_path)


@pytest.mark.rare  # it runs recipes
def test_several_outputs_are_searched(made, tmp_path):
    one, data, validation = made
    x = keras.Input((8,))
    way = one(x)
    model = keras.Model(x, {"way": way, "back": keras.layers.Rescaling(-1.0)(way)})

    def both(data):
        return data[0], {"way": data[1], "back": model.predict(data[0], verbose=0)["back"].argmax(1)}

    how = {"data": both(data), "validation": both(validation), "trials": 2, "max_drop": 10}
    report = search(model, FINITE, **how, output_dir=tmp_path)
    assert len(report.tries) == 2
    assert report.chosen
    said = {file.selection.metric for one in report.tries for file in one.files}
    assert said <= {"accuracy of 'way'", "accuracy of 'back'"}


@pytest.mark.rare  # it starts three processes
def test_a_trial_of_a_killed_process_is_taken_up_by_another(tmp_path):
    command = [sys.executable, "-m", "tests.search.small_search", str(tmp_path), "6"]
    one = subprocess.Popen(command)
    while not (tmp_path / "trial-0001" / "run" / "run.json").exists():
        assert one.poll() is None
        time.sleep(0.05)
    other = subprocess.Popen(command)
    one.send_signal(signal.SIGKILL)
    one.wait()
    assert other.wait() == 0
    there = optuna.load_study(study_name="small", storage=open_storage(None, tmp_path))
    states = [trial.state.name for trial in there.trials]
    assert (states.count("COMPLETE"), states.count("RUNNING")) == (6, 0)
    again = [trial for trial in there.trials if killed_trials.AGAIN in trial.user_attrs]
    assert [there.trials[one.user_attrs[killed_trials.AGAIN]].params for one in again] == [one.params for one in again]
    assert len(again) == 1
