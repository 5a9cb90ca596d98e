"""The safest files are judged first, and the last that holds is shipped."""

import dataclasses
import pathlib

import numpy as np
import pytest

from tfcompress.evaluation.paired_bounds import bounds
from tfcompress.search.judgement import Judgement
from tfcompress.search.proof import prove, sequence
from tfcompress.search.result import Result
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


def test_a_file_that_a_smaller_one_is_expected_to_beat_is_left_out(trials):
    file = TriedFile("onnx", trials.folder / "f", 300, selection=judgement(0.6))
    trials.tries.append(Try("f", {}, (file,), key="f"))
    assert [one.name for one in sequence(trials, "onnx")] == ["a", "b", "d"]
    worse = TriedFile("onnx", trials.folder / "b", 500, selection=judgement(0.55))
    trials.tries[1:3] = [Try("b", {}, (worse,), key="b")]
    assert [one.name for one in sequence(trials, "onnx")] == ["a", "b", "d"]  # the largest two always count


def test_nothing_behind_the_first_that_fails_is_judged(trials):
    assert shipped(trials, {"a": "broken", "b": "holds", "d": "holds"}) == (None, ["a"])


def test_what_was_judged_is_not_judged_again(trials):
    assert shipped(trials, dict.fromkeys("abd", "holds")) == ("d", ["a", "b", "d"])
    assert shipped(trials, {}) == ("d", [])
    assert [one.files[0].proof is not None for one in trials.tries] == [True, True, False, True, False]


def found_since(trials: Trials, *names: str) -> Trials:
    """Return the trials of a later call, with files of 900 bytes less 100 for each letter from f on."""
    trials.save()
    later = dataclasses.replace(trials)
    later.tries = list(trials.tries)
    for name in names:
        file = TriedFile("onnx", trials.folder / name, 900 - 100 * (ord(name) - ord("f")), selection=judgement(0.0))
        later.tries.append(Try(name, {}, (file,), key=name))
    return later


def test_a_search_that_goes_on_proves_nothing_behind_what_failed(trials):
    assert shipped(trials, {"a": "holds", "b": "holds", "d": "not shown"}) == ("b", ["a", "b", "d"])
    later = found_since(trials, "f", "j", "n")  # by themselves they would be judged in the place of b and d
    assert [one.name for one in sequence(later, "onnx")] != ["a", "b", "d"]
    assert shipped(later, {}) == ("b", [])
    said = str(Result({}, {}, tuple(later.tries), 1.0, "size", ("onnx",), later.folder, ended="out of time"))
    assert "Of onnx it ships nothing smaller any more" in said


def test_a_search_that_goes_on_proves_what_is_smaller_behind_what_held(trials):
    trials.tries = trials.tries[:3]
    assert shipped(trials, {"a": "holds", "b": "holds"}) == ("b", ["a", "b"])
    later = found_since(trials, "f", "l", "m")  # of 900, 300 and 200 bytes
    assert shipped(later, {"l": "holds", "m": "broken"}) == ("l", ["l", "m"])
    assert list(found_since(later).proved["onnx"].items()) == [
        *((name, "holds") for name in "abl"),
        ("m", "broken"),
    ]


def test_a_file_that_is_gone_keeps_its_place(trials):
    assert shipped(trials, {"a": "holds", "b": "holds", "d": "broken"}) == ("b", ["a", "b", "d"])
    later = found_since(trials)
    later.tries = [one for one in later.tries if one.key not in "bd"]
    assert shipped(later, {}) == ("a", [])


RATES = {"a": (0.010, 0.009), "b": (0.020, 0.014), "c": (0.030, 0.019), "d": (0.045, 0.033), "e": (0.06, 0.03)}
"""Of files, the largest first: how often it alone is wrong, and the float model alone. The first two keep a budget of 1
point, the next two break it by little."""


def drawn(name: str, samples: int, random: np.random.Generator) -> Judgement:
    """Return how a file is judged on so many samples that are drawn."""
    harm, gain = RATES[name]
    harmed, gained, rest = random.multinomial(samples, (harm, gain, 1 - harm - gain))
    drops = np.repeat([1, -1, 0], [harmed, gained, rest]).astype(np.int8)
    low, high = (100 * bound for bound in bounds(drops))
    verdict = "holds" if high <= 1 else "broken" if low > 1 else "not shown"
    figures = {"drop": 100 * drops.mean(), "deviation": 100 * float(drops.std())}
    return Judgement("accuracy", 0.9, 0.9, interval=(low, high), samples=samples, verdict=verdict, **figures)


def test_what_breaks_the_budget_is_shipped_in_at_most_one_of_20_searches(trials, monkeypatch):
    monkeypatch.setattr(trials, "save", lambda: None)
    trials.proof_samples = 6000
    random = np.random.default_rng(0)
    shipped = []
    for _ in range(400):
        trials.tries, trials.proved = [], {}
        for place, name in enumerate(RATES):
            file = TriedFile("onnx", pathlib.Path(name), 1000 - 100 * place, selection=drawn(name, 3000, random))
            trials.tries.append(Try(name, {}, (file,), key=name))
        file = prove(trials, lambda path, budget: drawn(path.name, 6000, random), "onnx")
        shipped.append(file and file.path.name)
    broken = sum(shipped.count(name) for name in "cde") / 400
    assert broken <= 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / 400)
    assert (shipped.count("a") + shipped.count("b")) / 400 > 0.9
    assert shipped.count("b") > shipped.count("a") / 4
