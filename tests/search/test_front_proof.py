"""What a study proved stays proved, in calls that go on and in other processes."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest

from tfcompress.evaluation.paired_bounds import bounds
from tfcompress.search.front_proof import Proofs, prove_front
from tfcompress.search.judgement import Judgement
from tfcompress.search.report import SearchReport
from tfcompress.search.tries import TriedFile, Try

optuna = pytest.importorskip("optuna")

BUDGET = 1.0


def drawn(rates: tuple[float, float], samples: int, random: np.random.Generator) -> Judgement:
    """Return how a file is judged on so many samples that are drawn.

    Args:
        rates: how often it alone is wrong, and the float model alone.
    """
    harm, gain = rates
    harmed, gained, rest = random.multinomial(samples, (harm, gain, 1 - harm - gain))
    drops = np.repeat([1, -1, 0], [harmed, gained, rest]).astype(np.int8)
    low, high = (100 * bound for bound in bounds(drops))
    verdict = "holds" if high <= BUDGET else "broken" if low > BUDGET else "not shown"
    figures = {"drop": 100 * drops.mean(), "deviation": 100 * float(drops.std())}
    return Judgement("accuracy", 0.9, 0.9, interval=(low, high), samples=samples, verdict=verdict, **figures)


class Drawing:
    """Judges files of a search on proof samples that are drawn once for each file; a name says its drop."""

    samples = 6000

    def __init__(self, random: np.random.Generator):
        self.random, self.said, self.judged = random, {}, []

    def __call__(self, path: pathlib.Path, budget: float) -> Judgement:
        self.judged.append(path)
        if path not in self.said:
            self.said[path] = drawn(rates(path), self.samples, self.random)
        return self.said[path]


def rates(path: pathlib.Path) -> tuple[float, float]:
    drop = float(path.stem.split("_")[1])
    return 0.01 + drop / 100, 0.01


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(pathlib.Path, "exists", lambda path: True)


def shipped(random: np.random.Generator, *, forgets: bool = False) -> set[str | None]:
    """Return what ten calls ship, each of which finds a file that breaks the budget by little.

    It is smaller, and seen to lose less, than those of earlier calls: without them in between it follows the one file
    that keeps the budget.
    """
    judge, proofs, tries = Drawing(random), Proofs(optuna.create_study()), []
    found = set()
    for call in range(11):
        path = pathlib.Path(f"{call}_{1.005 if call else 0.3}.onnx")
        seen = drawn(rates(path), 1500, random)
        selection = dataclasses.replace(seen, drop=0.5 - call / 100 if call else -0.5, verdict="not shown")
        file = TriedFile("onnx", path, 9000 - 500 * call, selection=selection)
        tries.append(Try(str(call), {}, (file,)))
        if call:
            proofs = Proofs(optuna.create_study()) if forgets else proofs
            report = prove_front(SearchReport(tuple(tries), budget=BUDGET), judge, proofs)
            found.add(report.tries[report.chosen["onnx"]].name if report.chosen else None)
    return found


def test_what_breaks_the_budget_is_shipped_in_at_most_one_of_20_searches_of_ten_calls(here):
    random = np.random.default_rng(0)
    found = [shipped(random) for _ in range(200)]
    assert np.mean([bool(one - {None, "0"}) for one in found]) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)
    assert np.mean([one == {"0"} for one in found]) > 0.8
    assert np.mean([bool(shipped(random, forgets=True) - {None, "0"}) for _ in range(50)]) > 0.2


def test_a_call_that_goes_on_tests_what_is_smaller_behind_what_held_and_nothing_behind_what_failed(tmp_path):
    proofs, verdicts = Proofs(optuna.create_study()), {"a": "holds", "b": "holds", "c": "not shown", "d": "holds"}
    judged, said = [], {}

    def judge(path: pathlib.Path, budget: float) -> Judgement:
        judged.append(path.stem)
        return seen(0.1, verdicts[path.stem])

    judge.samples = 4000

    def seen(drop: float, verdict: str) -> Judgement:
        return Judgement("accuracy", 0.9, 0.9, drop, (drop - 0.1, drop + 0.1), 1000, verdict, deviation=1.0)

    def proved(sizes: dict[str, int]) -> str | None:
        judged.clear()
        tries = []
        for name, nbytes in sizes.items():
            (tmp_path / f"{name}.onnx").touch()
            selection = seen(0.5 - nbytes / 10000, "not shown")
            tries.append(Try(name, {}, (TriedFile("onnx", tmp_path / f"{name}.onnx", nbytes, selection=selection),)))
        report = prove_front(SearchReport(tuple(tries), budget=BUDGET), judge, proofs)
        said.update(report.about)
        return report.tries[report.chosen["onnx"]].name if report.chosen else None

    assert (proved({"a": 900}), judged) == ("a", ["a"])
    assert (proved({"a": 900, "b": 500}), judged) == ("b", ["b"])
    assert (proved({"a": 900, "b": 500, "c": 300}), judged) == ("b", ["c"])
    assert (
        proved({"a": 900, "b": 500, "c": 300, "d": 100}) == "b"
    )  # d, on the front, is judged, but not in the sequence
    assert judged == ["d"]
    assert "since c wasn't shown to keep the budget" in said["proof of onnx"]
    assert list(proofs.verdicts("onnx").items()) == [("a", "holds"), ("b", "holds"), ("c", "not shown")]
