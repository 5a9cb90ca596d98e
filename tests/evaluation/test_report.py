"""A report as a page, as Markdown and as JSON: the same figures, safe for any name, honest about chance."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tfcompress.evaluation.comparison import Candidate
from tfcompress.evaluation.report import Report
from tfcompress.evaluation.scoring import score
from tfcompress.evaluation.size import Size
from tfcompress.pipeline.sensitivity_curves import Sensitivity, SensitivityRow

NAMES = ["cat_1", "<b>dog</b>", "a|b"]


def candidate(name, right, kilobytes, latency=None, labels=None):
    """Return one whose first `right` of 400 samples are right, the others one class further."""
    labels = np.arange(400) % 3 if labels is None else labels
    said = np.where(np.arange(400) < right, labels, (labels + 1) % 3)
    metrics = score(labels, np.eye(3)[said] * 0.8 + 0.1 / 1.5, class_names=NAMES, from_logits=False)
    return Candidate(name, "tflite", Size(1000 * kilobytes, 900 * kilobytes, 250 * kilobytes, 200), metrics, latency)


@pytest.fixture(scope="module")
def report():
    rows = tuple(SensitivityRow("conv", level, value) for level, value in ((0.5, 0.9), (0.8, 0.4)))
    scan = Sensitivity("sparsity", "accuracy", True, 0.95, 400, {"conv": 90}, (0.5, 0.8), rows)
    found = (candidate("<i>float</i>", 380, 100), candidate("int8", 379, 25), candidate("int4_x", 250, 12))
    about = {"model": "Net & co", "data": "<pets>", "recipe": "int8", "seed": 0, "command": "tfcompress a > b"}
    return Report(found, "<i>float</i>", {"Python": "3"}, about, scans=(scan,))


class Cells(HTMLParser):
    """The cells of all tables, (class, text) each, and the headings of all parts."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.titles, self.tags = [], [], []
        self.add = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append([dict(attrs).get("class", ""), ""])
            self.add = self.add_to_cell
        elif tag in ("h1", "h2"):
            self.add = self.titles.append

    def handle_endtag(self, tag):
        if tag in ("td", "th", "h1", "h2"):
            self.add = None

    def handle_data(self, data):
        if self.add is not None:
            self.add(data)

    def add_to_cell(self, data):
        self.cells[-1][1] += data


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    return report.save(tmp_path_factory.mktemp("page") / "r.html", title="Pets").read_text()


def test_the_verdict_is_about_the_smallest_that_is_not_worse(report):
    assert report.verdict == (
        "int8: 4.0x smaller, accuracy -0.2 \u00b1 0.8 points, compared with <i>float</i>; the 400 samples show no "
        "difference in quality."
    )
    worse = Report((report.candidates[0], report.candidates[2]), "<i>float</i>", {})
    assert worse.verdict.startswith("int4_x: 8.3x smaller, accuracy -32.5 \u00b1 4.6 points")
    assert "no difference" not in worse.verdict
    assert Report(report.candidates[:1], "<i>float</i>", {}).verdict == ""
    larger = Report((report.candidates[1], report.candidates[0]), "int8", {})
    assert larger.verdict.startswith("<i>float</i>: 4.0x larger, accuracy +0.2")


def test_sections(page):
    titles = ["Pets", "Before and after", "Quality against size", "F1 by class", "ROC curves", "Confusion matrices"]
    assert Cells(page).titles == [*titles, "Sensitivity", "Each model", "How it was made"]
    assert page.count("<details>") == 6
    assert "Net &amp; co on &lt;pets&gt;" in page
    assert "<dd>tfcompress a &gt; b</dd>" in page


def test_the_page_needs_nothing_else_and_runs_nothing(page):
    assert not re.findall(r"(?:https?:)?//(?!www\.w3\.org/)\w", page)
    assert {"script", "link", "b", "i", "pets"}.isdisjoint(Cells(page).tags)
    assert "currentColor" in page and "#010203" not in page  # charts take the page's colour of text
    assert page.count('role="img" aria-label="') == page.count("<svg")
    assert len(page) < 200_000


def test_a_difference_that_may_be_chance_is_grey(report, page):
    cells = [tuple(cell) for cell in Cells(page).cells]
    for name, mark in (("int8", "grey"), ("int4_x", "worse")):
        low, high = report.intervals(name)[""]
        assert (low <= 0 <= high) == (mark == "grey")
        said = f"{report.differences(name)['']:+.2f} \u00b1 {(high - low) / 2:.2f}"
        assert (mark, said) in cells
    for one in report.f1_differences("int4_x"):
        assert ("worse", str(one)) in cells
        assert one.interval[1] < 0


def test_page_markdown_and_json_have_the_same_figures(report, page, tmp_path):
    document = json.loads(report.to_json(tmp_path / "r.json").read_text())
    text = report.to_markdown(tmp_path / "r.md", title="Pets").read_text()
    cells = {cell[1] for cell in Cells(page).cells}
    assert document["verdict"] == report.verdict
    assert document["best"] == "int8"
    for row in document["candidates"]:
        low, high = row["metrics"]["interval"]
        said = [f"{100 * row['metrics']['accuracy']:.2f} % [{100 * low:.1f}, {100 * high:.1f}]"]
        said += [f"{row['shrink']:.2f}x", f"{row['file_bytes'] / 1000:,.1f}", f"{row['parameters']:,}"]
        said += [f"{one['f1']:.3f}" for one in row["metrics"]["classes"]]
        for one in row["f1_differences"].get("", ()):
            ends = ", ".join(f"{end:+.3f}" for end in one["interval"])
            said.append(f"{one['difference']:+.3f} [{ends}]")
        said += [str(count) for counts in row["metrics"]["confusion_matrix"] for count in counts]
        assert cells.issuperset(said)
        assert all(part.replace("[", r"\[").replace("]", r"\]") in text for part in said)
    assert document["scans"][0]["rows"][1] == {"layer": "conv", "level": 0.8, "value": 0.4}
    assert "40.00 %" in text and "40.00 %" in page


def test_markdown_is_safe_for_any_name(report, tmp_path):
    text = report.to_markdown(tmp_path / "r.md").read_text()
    assert text.startswith("# Compression report\n\nNet &amp; co on &lt;pets&gt;\n\n**int8: 4.0x smaller")
    assert (
        "(1) &lt;i&gt;float&lt;/i&gt; |" in text
        and r"| cat\_1 |" in text
        and r"a\|b" in text
        and "&lt;b&gt;dog&lt;/b&gt;" in text
    )
    assert "<" not in re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for table in tables:
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1
    assert len(tables) >= 7
    assert "(may be chance)" in text
    chart = text[text.index("    accuracy, %") : text.index("## F1 by class")]
    numbers = [re.findall(r"(?<= )\d+(?= |$)", line) for line in chart.splitlines() if "|" in line]
    assert [found for found in numbers if found] == [["2", "1"], ["3"]]  # larger to the right, better above


def test_of_many_classes_the_pairs_that_are_confused_are_told(tmp_path):
    labels = np.arange(120) % 24
    found = []
    for name, wrong in (("float", 1), ("int8", 4)):
        said = np.where((labels == 5) & (np.arange(120) < 24 * wrong), 7, labels)
        metrics = score(labels, np.eye(24)[said], class_names=[f"<{i}>" for i in range(24)], from_logits=False)
        found.append(Candidate(name, "tflite", Size(1000, 900, 250, 200), metrics, None))
    page = Report(tuple(found), "float", {}).save(tmp_path / "r.html").read_text()
    cells = [cell[1] for cell in Cells(page).cells]
    start = cells.index("taken for")
    assert cells[start - 1 : start + 7] == ["true class", "taken for", "float", "int8", "<5>", "<7>", "1", "4"]
    assert "&lt;23&gt;</text>" in page  # beside the heat map
