"""The safest files are judged first, and the last that holds is shipped."""

import pathlib

import pytest

from tfcompress.search.judge import Judgement
from tfcompress.search.proof import prove, sequence
from tfcompress.search.trials import Trials
from tfcompress.search.tries import TriedFile, Try


def judgement(drop: float, verdict: str = "not shown") -> Judgement:
    return Judgement("accuracy", 0.9, 0.9, drop, (drop - 0.2, drop + 0.2), 1000, verdict, deviation=2.0)


@pytest.fixture
def trials(tmp_path: pathlib.Path) -> Trials:
    """Return trials with a budget of 1 point, of files of 100 to 1000 bytes."""
    made = Trials(
        model=None,
        data=None,
        judge=None,
        proof_samples=1000,
        budget=1.0,
        minimize="size",
        formats=("onnx",),
        folder=tmp_path,
        seed=0,
        digest="",
    )
    for name, nbytes, drop in (("a", 1000, 0.0), ("b", 500, 0.1), ("c", 505, 0.3), ("d", 200, 0.5), ("e", 100, 0.9)):
        file = TriedFile("onnx", tmp_path / name, nbytes, selection=judgement(drop))
        made.tries.append(Try(name, {}, (file,), key=name))
    return made


def shipped(trials: Trials, verdicts: dict[str, str]) -> tuple[str | None, list[str]]:
    judged = []

    def judge(path: pathlib.Path, budget: float) -> Judgement:
        judged.append(path.name)
        return judgement(0.0, verdicts[path.name])

    file = prove(trials, judge, "onnx")
    return file and file.path.name, judged


def test_the_sequence_is_of_those_that_promise_the_largest_first_and_one_of_those_alike(trials):
    assert [one.name for one in sequence(trials, "onnx")] == ["a", "b", "d"]


def test_the_last_that_holds_before_one_that_does_not_is_shipped(trials):
    assert shipped(trials, {"a": "holds", "b": "holds", "d": "not shown"}) == ("b", ["a", "b", "d"])


def test_nothing_behind_the_first_that_fails_is_judged(trials):
    assert shipped(trials, {"a": "broken", "b": "holds", "d": "holds"}) == (None, ["a"])


def test_what_was_judged_is_not_judged_again(trials):
    assert shipped(trials, dict.fromkeys("abd", "holds")) == ("d", ["a", "b", "d"])
    assert shipped(trials, {}) == ("d", [])
    assert [one.files[0].proof is not None for one in trials.tries] == [True, True, False, True, False]
