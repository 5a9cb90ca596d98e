"""A report from its first to its last section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from tfcompress.evaluation.comparison import Candidate, Comparison
from tfcompress.evaluation.page.classes import class_sections
from tfcompress.evaluation.page.overview import main_table, quality_charts
from tfcompress.evaluation.verdict import verdict
from tfcompress.reports import charts
from tfcompress.reports.content import Block, Cell, Chart, Content, Facts, Fixed, Group, Section, Table, Text
from tfcompress.reports.tables import number


class Scan(Protocol):
    """What a scan found, such as `Sensitivity` and `Sweep`."""

    def draw(self) -> Any:
        """Return the picture, matplotlib's `Figure`."""

    def table(self, width: int = 100) -> str:
        """Return the figures as text."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""


def content(report: Comparison, title: str, layers: Sequence[Section], scans: Sequence[Scan]) -> Content:
    """Return all sections of a report.

    Args:
        report: what `tfc.compare` gave.
        title: of the page.
        layers: the sections that compare models layer by layer.
        scans: what scans found.
    """
    named = [str(report.about[name]) for name in ("model", "data") if name in report.about]
    grey = "Grey: the interval of the difference holds 0, so that it may be chance."
    first: list[Block] = [main_table(report), Text(f"{report.caption()} {grey}"), *map(Text, report.notes())]
    return Content(
        title,
        " on ".join(named),
        verdict(report),
        [
            Section("Before and after", first),
            Section("Quality against size", [Group(quality_charts(report))]),
            *class_sections(report),
            *layers,
            *(Section(type(scan).__name__, _scan(scan), folded=True) for scan in scans),
            Section("Each model", [_candidate(candidate) for candidate in report.candidates], folded=True),
            Section("How it was made", [Facts(_facts(report))], folded=True),
        ],
    )


def _scan(scan: Scan) -> list[Block]:
    title = f"{type(scan).__name__} scan"
    return [Chart(title, charts.drawn(scan.draw, title), wide=True), Fixed(scan.table())]


def _facts(report: Comparison) -> list[tuple[str, str]]:
    """Return what was told of the run, then what a figure depends on."""
    return [(name, str(said)) for name, said in {**report.about, **report.environment}.items()]


def _candidate(candidate: Candidate) -> Section:
    facts = [f"{candidate.size.nonzeros:,} of {candidate.size.parameters:,} parameters not zero", candidate.format]
    facts += [str(candidate.timing)] if candidate.timing else []
    blocks: list[Block] = [Text(" \u00b7 ".join(facts))]
    blocks += [Text(line) for line in candidate.operators.lines()] if candidate.operators else []
    for output, metrics in (candidate.metrics.outputs or {"": candidate.metrics}).items():
        said = f"{output}: {metrics}" if output else str(metrics)
        blocks.append(Text(said, soft=False))
        if metrics.classes:
            rows = [
                [
                    Cell(one.name),
                    *(Cell(number(value)) for value in (one.precision, one.recall, one.f1, one.roc_auc)),
                    Cell(f"{one.support:,}"),
                ]
                for one in metrics.classes
            ]
            blocks.append(Table(["class", "precision", "recall", "F1", "ROC-AUC", "support"], rows))
    return Section(candidate.name, blocks)
