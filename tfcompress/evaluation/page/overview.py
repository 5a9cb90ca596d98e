"""The first screen of a report: before and after, and quality against size."""

from __future__ import annotations

import math
from functools import partial

from tfcompress.evaluation.comparison import Candidate, Comparison
from tfcompress.evaluation.intervals import mark
from tfcompress.evaluation.verdict import mark_of
from tfcompress.reports import charts
from tfcompress.reports.content import Cell, Chart, Table
from tfcompress.reports.tables import number, rough, significant, times
from tfcompress.reports.text_chart import scatter_text


def main_table(report: Comparison) -> Table:
    """Return the table of all models; what matters most stands first, where a phone shows it."""
    headings = ["model", "smaller"]
    timed = any(candidate.timing for candidate in report.candidates)
    headings += ["faster"] if timed else []
    outputs = report.candidates[0].metrics.scores
    for output, (kind, _) in outputs.items():
        unit = "points" if kind == "accuracy" else "MSE"
        headings += [f"{output} \u0394 {unit}".strip(), f"{output} {kind} [95 %]".strip()]
    headings += ["file kB", "zip kB", *(["ms (IQR)"] if timed else []), "parameters", "non-zero"]
    headings += ["arena kB"] if any(candidate.footprint for candidate in report.candidates) else []
    rows = [_row(report, place, timed) for place in range(len(report.candidates))]
    strong = [candidate.name for candidate in report.candidates].index(report.baseline)
    return Table(headings, rows, strong=strong)


def _row(report: Comparison, place: int, timed: bool) -> list[Cell]:
    candidate = report.candidates[place]
    is_baseline = candidate.name == report.baseline
    cells = [Cell(candidate.name, badge=str(place + 1))]
    cells.append(Cell(times(report.shrink(candidate.name))))
    if timed:
        cells.append(_speedup(report, candidate.name))
    marks = mark_of(report, candidate.name)
    for output in report.candidates[0].metrics.scores:
        cells += _quality(report, candidate, output, "" if is_baseline else marks.get(output, ""))
    size, timing = candidate.size, candidate.timing
    cells += [Cell(f"{size.file_bytes / 1000:,.1f}"), Cell(f"{size.zipped_bytes / 1000:,.1f}")]
    if timed:
        spread = f"({rough(timing.iqr_ms)})" if timing else ""
        cells.append(Cell(f"{timing.median_ms:.3g}" if timing else "-", within=spread))
    cells += [Cell(f"{size.parameters:,}"), Cell(f"{100 * (1 - size.sparsity):.1f} %")]
    if any(each.footprint for each in report.candidates):
        cells.append(Cell(f"{candidate.footprint.arena.total / 1000:,.1f}" if candidate.footprint else "-"))
    return cells


def _speedup(report: Comparison, name: str) -> Cell:
    """Return how much faster a model is than the baseline, and whether that may be chance."""
    speedup, interval = report.speedup(name), report.speedup_interval(name)
    if speedup is None:
        return Cell("-")
    if interval is None:
        return Cell(times(speedup))
    low, high = (f"{end:.3g}" if end >= 0.1 else f"{end:.1g}" for end in interval)
    return Cell(times(speedup), mark((interval[0] - 1, interval[1] - 1)), within=f"[{low}, {high}]")


def _quality(report: Comparison, candidate: Candidate, output: str, marked: str) -> list[Cell]:
    """Return the difference of one output's metric, and the metric."""
    if output not in candidate.metrics.scores:
        return [Cell("-"), Cell("-")]
    kind, value = candidate.metrics.scores[output]
    metrics = candidate.metrics[output] if candidate.metrics.outputs else candidate.metrics
    low, high = metrics.interval or (math.nan, math.nan)
    difference = report.differences(candidate.name).get(output)
    interval = report.intervals(candidate.name).get(output)
    half = (interval[1] - interval[0]) / 2 if interval else None
    if kind == "accuracy":
        said = Cell(f"{100 * value:.2f} %", within=f"[{100 * low:.1f}, {100 * high:.1f}]" if metrics.interval else "")
        changed, within = number(difference, 2, sign=True), f"\u00b1 {half:.2f}" if half is not None else ""
    else:
        said = Cell(significant(value), within=f"[{low:.3g}, {high:.3g}]" if metrics.interval else "")
        changed, within = "-" if difference is None else f"{difference:+.3g}", f"\u00b1 {half:.2g}" if half else ""
    return [Cell("-") if candidate.name == report.baseline else Cell(changed, marked, within=within), said]


def quality_charts(report: Comparison) -> list[Chart]:
    """Return a chart of quality against size for each output, with latency as colour."""
    found = []
    for output, (kind, _) in report.candidates[0].metrics.scores.items():
        factor, name = (100.0, "accuracy, %") if kind == "accuracy" else (1.0, "MSE")
        name = f"{output} {name}".strip()
        points = []
        for candidate in report.candidates:
            metrics = candidate.metrics.outputs.get(output, candidate.metrics)
            value = candidate.metrics.scores.get(output, ("", math.nan))[1]
            interval = metrics.interval and (factor * metrics.interval[0], factor * metrics.interval[1])
            latency = candidate.timing.median_ms if candidate.timing else None
            points.append(charts.Point(candidate.size.file_bytes / 1000, factor * value, interval, latency))
        places = [candidate.name for candidate in report.candidates].index(report.baseline)
        labels = ("file, kB", name, "latency, ms")
        title = f"{name} against size; numbers as in the table, lines: 95 % interval, square: {report.baseline}"
        svg = partial(charts.scatter, points, *labels, places)
        found.append(Chart(title, svg, text=scatter_text(points, *labels)))
    return found
