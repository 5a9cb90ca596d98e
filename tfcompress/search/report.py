"""What was tried, as a table, a Pareto plot, a page, Markdown and JSON."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tfcompress.core.atomic_files import check_target, write_bytes, write_text
from tfcompress.evaluation.page.assemble import how_made, subject_of
from tfcompress.reports import charts
from tfcompress.reports.content import Block, Cell, Chart, Content, Facts, Section, Table, Text
from tfcompress.reports.html import to_html
from tfcompress.reports.json_document import Document
from tfcompress.reports.markdown import to_markdown
from tfcompress.reports.tables import plain, to_text
from tfcompress.reports.text_chart import scatter_text
from tfcompress.search.judgement import Judgement
from tfcompress.search.metric import MEANS
from tfcompress.search.pareto import objective_of, pareto_front
from tfcompress.search.tries import TriedFile, Try

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NUMBERED = 24
"""Points that all have numbers in a picture; of more, those of the front and the chosen one."""

COSTS = {"size": "file, kB", "zip": "zip, kB", "latency": "latency, ms", "arena": "RAM, kB"}
"""What is told of a cost that is made small."""

FLASH = "flash, kB"
"""Likewise of the size of files for an NPU."""


@dataclasses.dataclass(frozen=True, eq=False)
class SearchReport(Document):
    """What a search tried and what it chose.

    Attributes:
        tries: all that was run, in order.
        objectives: what was made small: "drop" (of the metric), "size", "zip", "latency", "arena".
        budget: the largest drop that was allowed, in points of shares, else in the metric's own unit; `None`: any.
        chosen: {format: the place of the try whose file is shipped, in `tries`}.
        parameters: of each try, what was searched, by name; empty where nothing was.
        about: what else is told of the run, by name, as in `tfcompress.compare`: the model, the data, the command.
        environment: versions, processor and time of the run.
        ended: why the search ended before it was done; "": it was done.
    """

    tries: tuple[Try, ...]
    objectives: tuple[str, ...] = ("drop", "size")
    budget: float | None = None
    chosen: Mapping[str, int] = dataclasses.field(default_factory=dict)
    parameters: tuple[Mapping[str, Any], ...] = ()
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ended: str = ""

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats that there are files of."""
        return tuple(dict.fromkeys(file.format for one in self.tries for file in one.files))

    @property
    def cost(self) -> str:
        """What the horizontal axis is: the first cost among the objectives."""
        return next((one for one in self.objectives if one in COSTS), "size")

    def front(self, form: str | None = None) -> list[int]:
        """Return the places of the tries of which none other is better in all objectives, the largest cost first.

        Args:
            form: the format of the files; `None`: the only one, or the first.
        """
        form = form or next(iter(self.formats), "")
        found = {place: file for place, one in enumerate(self.tries) if (file := one.file(form))}
        best = pareto_front({place: objective_of(file, self.objectives) for place, file in found.items()})
        return sorted(best, key=lambda place: -found[place].cost(self.cost))

    @property
    def verdict(self) -> str:
        """What came of it, a sentence for each format."""
        lines = [self._verdict(form) for form in self.formats]
        if not lines:
            lines = [f"None of {len(self.tries)} tries made a file."]
        return " ".join([*lines, *([f"The search is not done: {self.ended}."] if self.ended else [])])

    def _verdict(self, form: str) -> str:
        if form in self.chosen:
            tried = self.tries[self.chosen[form]]
            file = tried.file(form)
            assert file is not None
            called = form if "." in form else f"{tried.name}.{form}"
            return f"{called}: {_sized(file, self.cost)}; {file.proof or file.selection}."
        front = self.front(form)
        said = f"{named(form)}: {len(front)} of {len(self.tries)} tries aren't beaten by another"
        if front:
            ends = [self.tries[place].file(form) for place in dict.fromkeys((front[0], front[-1]))]
            said += ", " + " to ".join(f"{_sized(end, self.cost)} ({_changed(end.selection)})" for end in ends if end)
        if self.budget is not None:
            said += f"; no file is shown to keep a budget of {self.budget:g}"
        return f"{said}."

    def table(self, width: int = 140) -> str:
        """Return the tries as text of at most `width` columns."""
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text as RichText

        parts = []
        for form in self.formats:
            table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
            shown = self._table(form)
            for title in shown.headings:
                table.add_column(title, justify="left" if title in ("try", "", "outcome") else "right")
            for row in shown.rows:
                cells = (f"{cell.badge} {cell.text} {cell.within}".strip() for cell in row)
                table.add_row(*map(RichText, cells))
            parts.append(table)
        return to_text(*parts, self.verdict, width=width)

    def __str__(self) -> str:
        return self.table()

    def plot(
        self, path: str | os.PathLike[str] | None = None, form: str | None = None, *, overwrite: bool = False
    ) -> Any:
        """Draw the metric against the cost, latency as colour, with the front.

        Args:
            path: ends in `.png`; `None`: nothing is written.
            form: the format of the files; `None`: the only one, or the first.
            overwrite: whether an existing file may be replaced.

        Returns:
            The path, or without one matplotlib's `Figure`.

        Raises:
            FileExistsError: the file exists, and `overwrite` is False.
            ValueError: another suffix, or there is no file to draw.
        """
        form = form or next(iter(self.formats), "")
        if not self._points(form):
            raise ValueError(f"Expected tries with a {named(form or 'tflite')} file that was judged. Received: none.")
        target = None if path is None else check_target(path, ".png", overwrite)
        figure = self._figure(form)
        if target is None:
            return figure
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=150)
        return write_bytes(target, stream.getvalue())

    def save(
        self, path: str | os.PathLike[str], *, title: str = "Compression search", overwrite: bool = False
    ) -> pathlib.Path:
        """Write one HTML page to be looked at; it needs no other file and no network; `title` is that of the page."""
        target = check_target(path, ".html", overwrite)
        return write_text(target, to_html(self._content(title)))

    def to_markdown(
        self, path: str | os.PathLike[str], *, title: str = "Compression search", overwrite: bool = False
    ) -> pathlib.Path:
        """Write what the page says as Markdown; its arguments are those of `save`, but for the suffix, `.md`."""
        target = check_target(path, ".md", overwrite)
        return write_text(target, to_markdown(self._content(title)) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        found = {
            "version": 1,
            "verdict": self.verdict,
            "objectives": self.objectives,
            "budget": self.budget,
            "ended": self.ended,
            "chosen": dict(self.chosen),
            "front": {form: self.front(form) for form in self.formats},
            "tries": [one.to_dict() for one in self.tries],
            "parameters": [dict(one) for one in self.parameters],
            "about": dict(self.about),
            "environment": dict(self.environment),
        }
        made: dict[str, Any] = plain(found)
        return made

    def _content(self, title: str) -> Content:
        sections: list[Block] = []
        for form in self.formats:
            blocks: list[Block] = []
            if self._points(form):
                labels = (self._cost(form), self._metric(form), "latency, ms")
                points = [point for _, point in self._points(form)]
                said = f"{labels[1]} against {labels[0]}"
                more = "numbers as in the table, bars: 95 % interval, line: not beaten by another"
                more += ", ring: chosen" if form in self.chosen else ""
                more += ", dashes: budget" if self.budget is not None else ""
                svg = partial(charts.drawn, partial(self._figure, form), f"{said} of {named(form)} files")
                blocks.append(Chart(f"{said}; {more}", svg, text=scatter_text(points, *labels)))
            blocks += [self._table(form), Text(_CAPTION)]
            sections.append(Section(f"{named(form)} files", blocks))
        if self.chosen:
            sections.insert(0, Section("Chosen", [Facts(self._facts())]))
        failed = [one for one in self.tries if not one.files]
        if failed:
            pairs = [(one.name, one.outcome) for one in failed]
            sections.append(Section("Without a file", [Facts(pairs)], folded=len(failed) > 3))
        sections.append(how_made(self.about, self.environment))
        return Content(title, subject_of(self.about), self.verdict, sections)

    def _facts(self) -> list[tuple[str, str]]:
        facts = []
        for form, place in self.chosen.items():
            file = self.tries[place].file(form)
            if file is not None:
                facts.append((named(form), f"{self.tries[place].name}, {_sized(file, self.cost)}"))
                facts += [("file", str(file.path))]
                facts += [("by proof", str(file.proof))] if file.proof else []
        return [*facts, *([("command", str(self.about["command"]))] if "command" in self.about else [])]

    def _points(self, form: str) -> list[tuple[int, charts.Point]]:
        """Return the points of files that were judged, with the places of their tries."""
        judged = [
            (place, file, file.selection)
            for place, one in enumerate(self.tries)
            if (file := one.file(form)) is not None and file.selection is not None
        ]
        if not judged:
            return []
        base = max((said for _, _, said in judged), key=lambda said: said.samples).baseline
        scale = 1.0 if self.cost == "latency" else 1000.0
        found = []
        for place, file, said in judged:
            height, *ends = (_height(base, said, drop) for drop in (said.drop, *reversed(said.interval)))
            cost = file.cost(self.cost) / scale
            if math.isfinite(cost) and cost > 0:
                found.append((place, charts.Point(cost, height, (min(ends), max(ends)), file.ms)))
        return found

    def _figure(self, form: str) -> Figure:
        points = self._points(form)
        at = {place: number for number, (place, _) in enumerate(points)}
        front = [at[place] for place in self.front(form) if place in at]
        chosen = at.get(self.chosen.get(form, -1))
        few = None if len(points) <= MOST_NUMBERED else {*front, *(() if chosen is None else (chosen,))}
        judged = [said for one in self.tries if (file := one.file(form)) and (said := file.selection)]
        said = max(judged, key=lambda each: each.samples)
        limit = None if self.budget is None else _height(said.baseline, said, self.budget)
        labels = (self._cost(form), self._metric(form), "latency, ms")
        how: dict[str, Any] = {"front": front, "chosen": chosen, "limit": limit, "numbered": few}
        return charts.scatter_figure([point for _, point in points], *labels, **how)

    def _cost(self, form: str) -> str:
        """Return the label of the horizontal axis."""
        files = (one.file(form) for one in self.tries)
        flashed = self.cost == "size" and any(file.flash is not None for file in files if file is not None)
        return FLASH if flashed else COSTS[self.cost]

    def _metric(self, form: str) -> str:
        """Return the label of the vertical axis."""
        for one in self.tries:
            file = one.file(form)
            if file is not None and file.selection is not None:
                return f"{file.selection.metric}, %" if file.selection.points else file.selection.metric
        return "metric"

    def _table(self, form: str) -> Table:
        front, chosen = set(self.front(form)), self.chosen.get(form)
        varied = list(dict.fromkeys(name for one in self.parameters for name in one))
        files = [(place, one, file) for place, one in enumerate(self.tries) if (file := one.file(form))]
        known = ("ms", "proof", "flash", "arena")
        timed, proved, flashed, worked = (any(getattr(file, name) for *_, file in files) for name in known)
        outcomes = any(one.outcome for _, one, _ in files)
        headings = ["try", "", "drop", *(["drop, proved"] if proved else []), "file kB", "zip kB"]
        headings += [*(["flash kB"] if flashed else []), *(["RAM kB"] if worked else [])]
        headings += [*(["ms"] if timed else []), *short_names(varied), "s", *(["outcome"] if outcomes else [])]
        badges = {place: str(number + 1) for number, (place, _) in enumerate(self._points(form))}
        rows = []
        for place, one, file in files:
            values = self.parameters[place] if place < len(self.parameters) else {}
            said = "chosen" if place == chosen else "front" if place in front else ""
            cells = [Cell(one.name, badge=badges.get(place, "")), Cell(said), _judged(file.selection)]
            cells += [_judged(file.proof)] if proved else []
            cells += [_kilobytes(file.nbytes), _kilobytes(file.zipped)]
            cells += [_kilobytes(file.flash)] if flashed else []
            cells += [_kilobytes(file.arena)] if worked else []
            cells += [Cell(f"{file.ms:.3g}" if file.ms else "-")] if timed else []
            cells += [Cell(_value(values[name]) if name in values else "") for name in varied]
            cells += [Cell(f"{one.seconds:.0f}"), *([Cell(one.outcome)] if outcomes else [])]
            rows.append(cells)
        strong = next((row for row, (place, *_) in enumerate(files) if place == chosen), None)
        return Table(headings, rows, strong=strong)


_CAPTION = (
    "drop: by how much the metric is worse than the float model's on the same samples, those that the search chooses "
    "by; in points, where it is of shares. [ ]: each bound holds with 95 % by itself."
)


def named(form: str) -> str:
    """Return how a text calls the files of a format, or of a name where a recipe exports several of one format.

    >>> named("onnx"), named("a.onnx")
    ('.onnx', 'a.onnx')
    """
    return form if "." in form else f".{form}"


def _height(base: float, said: Judgement, drop: float) -> float:
    """Return the metric of a file that drops by so much, in percent where it is of shares."""
    more = MEANS.get(said.metric.split(" of ")[0], True)
    if said.points:
        return 100 * base - drop
    return base - drop if more else base + drop


def _sized(file: TriedFile, cost: str) -> str:
    value = file.cost(cost)
    if cost == "latency":
        return f"{value:.3g} ms"
    what = {"zip": " deflated", "arena": " of RAM", "size": "" if file.flash is None else " of flash"}[cost]
    return f"{value / 1000:,.1f} kB{what}"


def _kilobytes(count: int | None) -> Cell:
    return Cell(f"{count / 1000:,.1f}" if count else "-")


def _changed(said: Judgement | None) -> str:
    if said is None:
        return "not judged"
    return f"{said.metric} {100 * said.value:.2f} %" if said.points else f"{said.metric} {said.value:.4g}"


def _judged(said: Judgement | None) -> Cell:
    if said is None:
        return Cell("-")
    low, high = said.interval
    mark = {"broken": "worse", "not shown": "grey"}.get(said.verdict, "")
    return Cell(f"{said.drop:.3g}", mark, within=f"[{low:.2g}, {high:.2g}]{' early' if said.stopped else ''}")


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def short_names(names: Sequence[str]) -> list[str]:
    """Return the ends of names that tell them from each other.

    >>> short_names(["prune.config.sparsity", "quantize.config", "finetune.epochs", "finetune_2.epochs"])
    ['sparsity', 'quantize.config', 'finetune.epochs', 'finetune_2.epochs']
    """
    found = []
    for name in names:
        parts = name.split(".")
        ends = [".".join(parts[-count:]) for count in range(1, len(parts) + 1)]
        clear = (end for end in ends if end != "config" and sum(f".{one}".endswith(f".{end}") for one in names) == 1)
        found.append(next(clear, name))
    return found
