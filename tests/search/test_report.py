"""What was tried, as a table, a plot, a page, Markdown and JSON."""

import dataclasses
import json
import pathlib
import types

import pytest

from tfcompress.search.judgement import Judgement
from tfcompress.search.pareto import pareto_front
from tfcompress.search.report import SearchReport
from tfcompress.search.result import Result
from tfcompress.search.tries import TriedFile, Try


def judged(drop: float, verdict: str = "not shown", **fields) -> Judgement:
    interval = (drop - 0.5, drop + 0.5)
    return Judgement("accuracy", 0.97, 0.97 - drop / 100, drop, interval, 600, verdict, budget=0.5, **fields)


def tried(name: str, nbytes: int, drop: float, ms: float, proof: Judgement | None = None, **fields) -> Try:
    file = TriedFile("onnx", pathlib.Path(name, "a.onnx"), nbytes, nbytes // 2, ms, judged(drop, **fields), proof)
    return Try(name, {"steps": []}, (file,), 12.0)


TRIES = (
    tried("float16", 40000, 0.0, 0.2),
    Try("refused", {}, (), 1.0, "failed: ValueError: <b>"),
    tried("int8", 20000, 0.1, 0.1, judged(0.05, "holds")),
    tried("slow", 21000, 0.2, 0.3),
    tried("int4|b", 10000, 2.5, 0.1),
    tried("int2", 5000, 30.0, 0.1, verdict="broken", stopped=True),
)


@pytest.fixture
def report() -> SearchReport:
    about = {"model": "Net <b>", "data": "digits", "command": "tfcompress search --trials=5"}
    varied = tuple({"quantize.config.bits": name} for name in ("f", "r", "8", "s", "4", "2"))
    return SearchReport(TRIES, ("drop", "size"), 0.5, {"onnx": 2}, varied, about, {"python": "3"})


def test_the_front_is_of_what_is_not_beaten(report):
    assert [TRIES[place].name for place in report.front()] == ["float16", "int8", "int4|b"]
    slow = SearchReport(TRIES, ("drop", "latency"))
    assert [TRIES[place].name for place in slow.front()] == ["float16", "int8"]
    assert pareto_front({"a": (1, 1), "b": (1, 1), "c": (2, 0), "d": (2, 1)}) == ["a", "b", "c"]


def test_the_verdict_tells_what_is_chosen(report):
    assert report.verdict == (
        "int8.onnx: 20.0 kB; accuracy 96.95 %, 97.00 % of the float model: a drop of 0.05 points [-0.45, 0.55] on 600 "
        "samples: a budget of 0.5 points holds."
    )
    none = SearchReport(TRIES, budget=0.5, ended="interrupted")
    assert none.verdict == (
        ".onnx: 3 of 6 tries aren't beaten by another, 40.0 kB (accuracy 97.00 %) to 10.0 kB (accuracy 94.50 %); no "
        "file is shown to keep a budget of 0.5. The search is not done: interrupted."
    )
    assert SearchReport(TRIES[1:2]).verdict == "None of 1 tries made a file."


def test_the_same_on_a_page_as_text_and_as_json(report, tmp_path):
    page = report.save(tmp_path / "r.html").read_text()
    text = report.to_markdown(tmp_path / "r.md").read_text()
    for said in (page, text):
        assert all(
            part in said
            for part in ("bits", "tfcompress search --trials=5", ">front<" if said is page else "| front |", "early")
        )
        assert "<b>" not in said
    assert page.count("<svg") == 1
    assert "stroke-dasharray" in page  # the budget
    assert "int4\\|b" in text
    found = json.loads(report.to_json(tmp_path / "r.json").read_text())
    assert (found["front"], found["chosen"]) == ({"onnx": [0, 2, 4]}, {"onnx": 2})
    assert [Try.from_dict(one) for one in found["tries"]] == list(TRIES)
    table = str(report)
    assert "chosen" in table and "21.0" in table and report.verdict[:40] in table


@pytest.mark.parametrize(
    ("minimize", "label", "said"),
    [
        ("size", "flash, kB", "20,000 bytes, 9,000 of flash; "),
        ("zip", "zip, kB", "20,000 bytes, 10,000 deflated; "),
        ("latency", "latency, ms", "20,000 bytes, 0.1 ms; "),
        ("arena", "RAM, kB", "20,000 bytes, 1,500 of RAM; "),
    ],
)
def test_costs_are_called_what_they_are(minimize, label, said, tmp_path):
    (file,) = TRIES[2].files
    int8 = dataclasses.replace(TRIES[2], files=(dataclasses.replace(file, flash=9000, arena=1500),))
    tries, path = (TRIES[0], int8), pathlib.Path("model.onnx")
    report = SearchReport(tries, ("drop", minimize))
    assert report.plot().axes[0].get_xlabel() == label
    assert f"   {label}   " in report.to_markdown(tmp_path / "r.md").read_text()
    artifacts, judgements = {"onnx": types.SimpleNamespace(path=path, nbytes=20000)}, {"onnx": int8.files[0].proof}
    assert str(Result(artifacts, judgements, tries, 0.5, minimize, ("onnx",), tmp_path)).startswith(f"{path}: {said}")


def test_the_plot_shows_accuracy_against_size_and_latency_as_colour(report, tmp_path):
    axis, bar = report.plot().axes
    assert (axis.get_xlabel(), axis.get_ylabel(), bar.get_ylabel()) == ("file, kB", "accuracy, %", "latency, ms")
    lines = {tuple(line.get_xdata()) for line in axis.lines}
    assert (40.0, 20.0, 10.0) in lines
    assert [text.get_text() for text in axis.texts] == ["1", "2", "3", "4", "5"]
    assert report.plot(tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="Expected tries with a .tflite file"):
        SearchReport(TRIES[1:2]).plot()
