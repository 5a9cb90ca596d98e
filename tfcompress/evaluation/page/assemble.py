"""A report from its first to its last section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from tfcompress.evaluation.comparison import Candidate
from tfcompress.evaluation.comparison_table import ComparisonTable
from tfcompress.evaluation.device_tables import DeviceTable, device_tables
from tfcompress.evaluation.page.classes import class_sections
from tfcompress.evaluation.page.overview import main_table, quality_charts
from tfcompress.evaluation.verdict import verdict
from tfcompress.reports import charts
from tfcompress.reports.content import Block, Cell, Chart, Content, Facts, Group, Section, Table, Text
from tfcompress.reports.tables import number


class Scan(Protocol):
    """What a scan found, such as `Sensitivity` and `Sweep`."""

    @property
    def verdict(self) -> str:
        """The result in one sentence."""

    def draw(self) -> Any:
        """Return the picture, matplotlib's `Figure`."""

    def headings(self) -> list[str]:
        """Return the titles of the table's columns."""

    def cells(self) -> list[list[str]]:
        """Return the table's cells, a list per row."""

    def caption(self) -> str:
        """Return what the table shows."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""


def content(report: ComparisonTable, title: str, layers: Sequence[Section], scans: Sequence[Scan]) -> Content:
    """Return all sections of a report.

    Args:
        report: what `tfc.compare` gave.
        title: of the page.
        layers: the sections that compare models layer by layer.
        scans: what scans found.
    """
    grey = "[ ]: 95 % interval. Grey: that of the difference holds 0, or that of the ratio 1, so that it may be chance."
    first: list[Block] = [main_table(report), Text(f"{report.caption()} {grey}"), *map(Text, report.notes())]
    return Content(
        title,
        subject_of(report.about),
        verdict(report),
        [
            Section("Before and after", first),
            *map(_device, device_tables(report.candidates)),
            Section("Quality against size", [Group(quality_charts(report))]),
            *class_sections(report),
            *layers,
            *(Section(type(scan).__name__, [Text(scan.verdict), *_scan(scan)], folded=True) for scan in scans),
            Section("Each model", [_candidate(candidate) for candidate in report.candidates], folded=True),
            how_made(report.about, report.environment),
        ],
    )


def _device(table: DeviceTable) -> Section:
    rows = [[Cell(text) for text in row] for row in table.rows]
    return Section(table.title, [Table(list(table.headings), rows), *map(Text, table.notes)])


def scan_content(scan: Scan, about: Mapping[str, Any], environment: Mapping[str, str]) -> Content:
    """Return all sections of a page about a scan alone.

    Args:
        scan: what it found.
        about: what was told of the run, by name.
        environment: what a figure depends on.
    """
    made = how_made(about, environment)
    return Content(type(scan).__name__, subject_of(about), scan.verdict, [Section("Figures", _scan(scan)), made])


def subject_of(about: Mapping[str, Any]) -> str:
    """Return what a page is about, in few words: the model and the data, where they are told."""
    return " on ".join(str(about[name]) for name in ("model", "data") if name in about)


def _scan(scan: Scan) -> list[Block]:
    said = scan.caption()
    title = said[0].upper() + said[1:]
    rows = [[Cell(text) for text in row] for row in scan.cells()]
    return [
        Chart(title, partial(charts.drawn, scan.draw, title), wide=True),
        Table(scan.headings(), rows),
    ]


def how_made(about: Mapping[str, Any], environment: Mapping[str, str]) -> Section:
    """Return what was told of the run, then what a figure depends on."""
    facts = [(name, str(said)) for name, said in {**about, **environment}.items()]
    return Section("How it was made", [Facts(facts)], folded=True)


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
