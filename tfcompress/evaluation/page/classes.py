"""How well each class is found: change of F1, ROC curves over each other, confusion matrices side by side."""

from __future__ import annotations

from functools import partial

import numpy as np

from tfcompress.evaluation.comparison import Comparison
from tfcompress.evaluation.metrics import Metrics
from tfcompress.evaluation.verdict import headline
from tfcompress.reports import charts
from tfcompress.reports.content import Block, Cell, Chart, Group, Key, Section, Table, Text
from tfcompress.reports.tables import number

MAX_TABLE_CLASSES = 20
MAX_CONFUSED = 15
"""Of more classes the pairs that are told."""

MAX_CHANGES = 30
"""Of more classes those whose F1 changed most."""


def class_sections(report: Comparison) -> list[Section]:
    """Return the sections of each output that has classes."""
    outputs = report[report.baseline].metrics.outputs or {"": report[report.baseline].metrics}
    found = []
    for output, metrics in outputs.items():
        if not metrics.classes:
            continue
        each = {c.name: c.metrics.outputs.get(output, c.metrics) for c in report.candidates}
        each = {name: one for name, one in each.items() if one.classes}
        title = f" of {output}" if output else ""
        changes = f1_changes(report, output, each)
        if changes:
            found.append(Section(f"F1 by class{title}", changes, folded=True))
        if any(one.roc_curves for one in each.values()):
            found.append(Section(f"ROC curves{title}", _roc(report, each), folded=True))
        matrices = [
            _matrix(name, one, one.confusion_matrix) for name, one in each.items() if one.confusion_matrix is not None
        ]
        caption = Text("Rows: the true class. Columns: the predicted one. Tinted by its share of the row.")
        blocks = [caption, Group(matrices), *_confused(each)]
        found.append(Section(f"Confusion matrices{title}", blocks, folded=True))
    return found


def f1_changes(report: Comparison, output: str, each: dict[str, Metrics]) -> list[Block]:
    """Return each class's F1 of the baseline, and by how much that of each other model differs."""
    base = each[report.baseline]
    best = headline(report)
    others = sorted((name for name in each if name != report.baseline), key=lambda name: name != best)
    differences = {name: report.f1_differences(name, output) for name in others}
    size = {
        place: max((abs(found[place].difference) for found in differences.values() if found), default=0.0)
        for place in range(len(base.classes))
    }
    shown = sorted(sorted(size, key=lambda place: -size[place])[:MAX_CHANGES])
    headings = ["class", f"F1 of {report.baseline}", *(f"\u0394 with {name}" for name in others), "samples"]
    rows = []
    for place in shown:
        one = base.classes[place]
        cells = [Cell(one.name), Cell(number(one.f1))]
        for name in others:
            change = differences[name][place] if differences[name] else None
            text, within = ("-", "") if change is None else str(change).split(" ", 1)
            cells.append(Cell(text, change.mark if change else "", within=within))
        rows.append([*cells, Cell(f"{one.support:,}")])
    blocks: list[Block] = []
    if len(shown) < len(base.classes):
        blocks.append(Text(f"The {len(shown)} of {len(base.classes)} classes whose F1 changed most."))
    blocks.append(Table(headings, rows, caption="In brackets: the 95 % interval of the difference."))
    if best is not None and differences.get(best):
        changes = [differences[best][place] for place in shown]
        names = [base.classes[place].name for place in shown]
        values, intervals = [c.difference for c in changes], [c.interval for c in changes]
        svg = partial(charts.differences, names, values, intervals, "change of F1")
        blocks.append(Chart(f"Change of F1 with {best}; grey: may be chance", svg))
    return blocks


def _roc(report: Comparison, each: dict[str, Metrics]) -> list[Block]:
    names = [name for name in each if name != report.baseline]
    colours = {name: charts.MODELS[place % len(charts.MODELS)] for place, name in enumerate(names)}
    colours[report.baseline] = charts.BASELINE
    found: list[Block] = []
    areas = []
    for place, one in enumerate(each[report.baseline].classes):
        curves = {
            name: metrics.roc_curves[one.name] for name, metrics in each.items() if one.name in metrics.roc_curves
        }
        cells = [Cell(number(metrics.classes[place].roc_auc, 4)) for metrics in each.values()]
        areas.append([Cell(one.name), *cells])
        if curves:
            found.append(Chart(one.name, partial(charts.roc, curves, colours, f"ROC curves of class {one.name}")))
    return [Key([(name, colours[name]) for name in each]), Group(found), Table(["area under the curve", *each], areas)]


def _confused(each: dict[str, Metrics]) -> list[Block]:
    """Return which classes are taken for which most often, where the matrices are too large for numbers."""
    counts = {name: one.confusion_matrix for name, one in each.items() if one.confusion_matrix is not None}
    if not counts or len(next(iter(counts.values()))) <= MAX_TABLE_CLASSES:
        return []
    most = np.max(list(counts.values()), axis=0) * (1 - np.eye(len(next(iter(counts.values()))), dtype=int))
    order = np.argsort(-most, axis=None, kind="stable")[:MAX_CONFUSED]
    pairs = [divmod(int(place), len(most)) for place in order if most.flat[place]]
    names = [one.name for one in next(iter(each.values())).classes]
    rows = [
        [Cell(names[true]), Cell(names[said]), *(Cell(f"{matrix[true, said]:,}") for matrix in counts.values())]
        for true, said in pairs
    ]
    headings = ["true class", "taken for", *counts]
    return [Table(headings, rows, caption="Most often confused, in samples.")] if rows else []


def _matrix(name: str, metrics: Metrics, matrix: np.ndarray) -> Block:
    names = [one.name for one in metrics.classes]
    if len(matrix) > MAX_TABLE_CLASSES:
        return Chart(name, partial(charts.heat_map, matrix, names, f"Confusion matrix of {name}"))
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    rows = [
        [Cell(label), *(Cell(str(count), tint=float(share)) for count, share in zip(*pair, strict=True))]
        for label, *pair in zip(names, matrix, shares, strict=True)
    ]
    return Table(["", *names], rows, caption=name, matrix=True)
