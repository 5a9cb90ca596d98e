"""A report as one HTML page that needs no other file and no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from tfcompress.evaluation.comparison import Candidate, Comparison
from tfcompress.evaluation.metrics import Metrics
from tfcompress.reports import charts
from tfcompress.reports.tables import number

MAX_TABLE_CLASSES = 20

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2430; --soft: #5a6675; --line: #d9dee5; --page: #fff; --card: #f6f8fa;
  --heat: 47 129 199; --good: #1a7f37; --bad: #b42318;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e9f0; --soft: #9aa6b5; --line: #333c48; --page: #12171e; --card: #1a212b;
    --good: #4ac26b; --bad: #f47067;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 72rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { font-size: 1.7rem; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h4 { font-size: .9rem; margin: 1rem 0 .25rem; }
p { margin: .25rem 0 .75rem; }
.soft { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .35em .6em; text-align: right; white-space: nowrap; }
th, td { border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
table.main { width: 100%; }
table.main td:first-child { font-weight: 600; white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
tr.baseline td { background: var(--card); }
.better { color: var(--good); }
.worse { color: var(--bad); }
table.matrix { font-size: .8rem; }
table.matrix td, table.matrix th {
  padding: .25rem .4rem; text-align: center; border: 1px solid var(--line);
  min-width: 2.1rem; max-width: 8rem; overflow: hidden; text-overflow: ellipsis;
}
section {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem 1.1rem; margin: 0 0 1rem;
}
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 1rem; }
.parts { display: flex; flex-wrap: wrap; gap: 1.25rem 2rem; align-items: flex-start; }
.parts > div { min-width: 0; max-width: 100%; flex: 0 1 auto; }
.parts .roc { flex: 0 1 22rem; }
svg { width: 100%; height: auto; display: block; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; font-size: .9rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
"""


def page(report: Comparison, title: str) -> str:
    """Return the page: the table, the charts, each candidate's classes, the environment.

    Args:
        report: what `tfc.compare` gave.
        title: of the page.

    Returns:
        An HTML document; all names are escaped.
    """
    facts = {**report.about, **report.environment}
    environment = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(report.caption())}</p>',
        _main_table(report),
        *(f'<p class="soft">{escape(note)}</p>' for note in report.notes()),
        "<h2>Size, quality, speed</h2>",
        _charts(report),
        "<h2>In detail</h2>",
        *(_candidate(candidate) for candidate in report.candidates),
        "<h2>Environment</h2>",
        f"<dl>{environment}</dl>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _main_table(report: Comparison) -> str:
    titles = report.headings()
    lines = []
    for cells in report.rows():
        columns = [f"<td>{escape(cells[0])}</td>"]
        for place, cell in enumerate(cells[1:], 1):
            mark = _better_or_worse(titles[place], cell)
            columns.append(f"<td{mark}>{escape(cell)}</td>")
        row = ' class="baseline"' if cells[0] == report.baseline else ""
        lines.append(f"<tr{row}>{''.join(columns)}</tr>")
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    return f'<div class="scroll"><table class="main"><tr>{head}</tr>{"".join(lines)}</table></div>'


def _better_or_worse(title: str, cell: str) -> str:
    """Colour a difference that can be seen in the digits shown."""
    if not title.startswith("Δ"):
        return ""
    try:
        value = float(cell.partition(" ")[0])
    except ValueError:
        return ""
    if value == 0:
        return ""
    return ' class="better"' if (value > 0) == (title == "Δ points") else ' class="worse"'


def _charts(report: Comparison) -> str:
    candidates = report.candidates
    panels: dict[str, Sequence[float | None]] = {"file, kB": [c.size.file_bytes / 1000 for c in candidates]}
    panels["zipped, kB"] = [c.size.zipped_bytes / 1000 for c in candidates]
    for output, (kind, _) in candidates[0].metrics.scores.items():
        factor, unit = (100, "accuracy, %") if kind == "accuracy" else (1, "MSE")
        values = [c.metrics.scores.get(output, ("", math.nan))[1] * factor for c in candidates]
        panels[f"{output} {unit}".strip()] = values
    if any(c.timing for c in candidates):
        panels["latency, ms"] = [c.timing.median_ms if c.timing else None for c in candidates]
    names = [c.name for c in candidates]
    baseline = names.index(report.baseline)
    drawn = (charts.bars(names, values, title, baseline) for title, values in panels.items())
    return f'<div class="charts">{"".join(drawn)}</div>'


def _candidate(candidate: Candidate) -> str:
    parts = [f"<h3>{escape(candidate.name)}</h3>"]
    facts = [
        candidate.format,
        f"{candidate.size.nonzeros:,} of {candidate.size.parameters:,} parameters not zero",
    ]
    if candidate.timing:
        facts.append(str(candidate.timing))
    parts.append(f'<p class="soft">{escape(" · ".join(facts))}</p>')
    if candidate.operators:
        parts += [f'<p class="soft">{escape(line)}</p>' for line in candidate.operators.lines()]
    outputs = candidate.metrics.outputs or {"": candidate.metrics}
    for output, metrics in outputs.items():
        if output:
            parts.append(f"<h4>{escape(output)}</h4>")
        parts.append(f"<p>{escape(str(metrics))}</p>")
        if metrics.classes:
            parts.append(_classes(metrics, f"{candidate.name} {output}".strip()))
    return f"<section>{''.join(parts)}</section>"


def _classes(metrics: Metrics, name: str) -> str:
    rows = "".join(
        f"<tr><td>{escape(c.name)}</td>"
        + "".join(f"<td>{number(value)}</td>" for value in (c.precision, c.recall, c.f1, c.roc_auc))
        + f"<td>{c.support:,}</td></tr>"
        for c in metrics.classes
    )
    head = "".join(f"<th>{t}</th>" for t in ("class", "precision", "recall", "F1", "ROC-AUC", "support"))
    parts = [f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>']
    if metrics.roc_curves:
        drawn = charts.roc(metrics.roc_curves, f"ROC curves of {name}")
        parts.append(f'<div class="roc"><p class="soft">ROC curves</p>{drawn}</div>')
    if metrics.confusion_matrix is not None:
        caption = '<p class="soft">Confusion matrix: true class down, predicted across</p>'
        parts.append(f"<div>{caption}{_matrix(metrics, metrics.confusion_matrix, name)}</div>")
    return f'<div class="parts">{"".join(parts)}</div>'


def _matrix(metrics: Metrics, matrix: np.ndarray, name: str) -> str:
    if len(matrix) > MAX_TABLE_CLASSES:
        return charts.heat_map(matrix, f"Confusion matrix of {name}")
    names = [escape(c.name) for c in metrics.classes]
    rates = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    lines = []
    for label, counts, shares in zip(names, matrix, rates, strict=True):
        cells = "".join(
            # Tinted at most by 60 %, so that the number stays readable on it.
            f'<td style="background:rgb(var(--heat) / {0.6 * share:.2f})">{count}</td>' if count else "<td>0</td>"
            for count, share in zip(counts, shares, strict=True)
        )
        lines.append(f'<tr><th title="{label}">{label}</th>{cells}</tr>')
    head = "<th></th>" + "".join(f'<th title="{label}">{label}</th>' for label in names)
    return f'<div class="scroll"><table class="matrix"><tr>{head}</tr>{"".join(lines)}</table></div>'
