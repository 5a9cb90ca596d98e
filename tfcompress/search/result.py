"""What a search ends with: the files, each with the interval that was shown, and everything that was tried."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import keras

from tfcompress.evaluation.compare import environment
from tfcompress.export.artifact import Artifact
from tfcompress.loading import load
from tfcompress.reports.json_document import Document
from tfcompress.reports.tables import plain
from tfcompress.search.judgement import Judgement
from tfcompress.search.report import SearchReport, named
from tfcompress.search.tries import TriedFile, Try


@dataclasses.dataclass(frozen=True, eq=False)
class Result(Document):
    """What `tfc.compress` found.

    Attributes:
        artifacts: {format: the file that is shipped}; none of a format in which no file was shown to hold. Where a
            recipe exports several files of one format, their names are in the place of the format.
        judgements: {format: how its file was judged on the data that nothing was chosen by}.
        tries: all that was run, in order.
        budget: the largest drop that was allowed, in points of shares, else in the metric's own unit; `None`: any.
        minimize: what was made small.
        formats: that were asked for.
        folder: where everything lies.
        model_path: of the Keras model behind the shipped files; `None`: nothing is shipped.
        ended: why the search ended before it was done: "interrupted", or "out of time"; "": it was done.
        about: what the report says besides, by name.
    """

    artifacts: Mapping[str, Artifact]
    judgements: Mapping[str, Judgement]
    tries: tuple[Try, ...]
    budget: float | None
    minimize: str
    formats: tuple[str, ...]
    folder: pathlib.Path
    model_path: pathlib.Path | None = None
    ended: str = ""
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def model(self) -> keras.Model | None:
        """The Keras model behind the shipped file, of several formats that of the first; `None`: nothing is shipped."""
        return None if self.model_path is None else load(self.model_path)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The bounds of the drop of the shipped files; of several formats those of the one that drops most."""
        found = [judgement.interval for judgement in self.judgements.values()]
        return max(found, key=lambda each: each[1], default=None)

    @property
    def holds(self) -> bool:
        """Whether a file of each format is shown to keep the budget; without a budget, whether there are files."""
        return bool(self.formats) and all(form in self.artifacts for form in self.formats)

    def nearest(self, form: str) -> tuple[Try, TriedFile] | None:
        """Return the try, and its file of a format, that is nearest to the budget: what there is where none holds."""
        found = [(one, file) for one in self.tries if (file := one.file(form)) and (file.proof or file.selection)]

        def bound(each: tuple[Try, TriedFile]) -> float:
            judgement = each[1].proof or each[1].selection
            assert judgement is not None
            return judgement.interval[1]

        return min(found, key=bound, default=None)

    @functools.cached_property
    def report(self) -> SearchReport:
        """All of it, as a table, a plot, a page and Markdown."""
        shipped = {form: self._place(form) for form in self.artifacts}
        return SearchReport(
            self.tries,
            objectives=("drop", self.minimize),
            budget=self.budget,
            chosen={form: place for form, place in shipped.items() if place is not None},
            about=self.about,
            environment=environment(),
            ended=self.ended,
        )

    def table(self, width: int = 140) -> str:
        """Return the tries as text, and what came of it."""
        return f"{self.report.table(width)}\n{self}"

    def _place(self, form: str) -> int | None:
        proof = self.judgements[form]
        judged = ((place, one.file(form)) for place, one in enumerate(self.tries))
        return next((place for place, file in judged if file is not None and file.proof is proof), None)

    def __str__(self) -> str:
        return "\n".join(self._said())

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return plain(
            {
                "version": 1,
                "budget": self.budget,
                "minimize": self.minimize,
                "ended": self.ended,
                "artifacts": {form: {"path": str(a.path), "nbytes": a.nbytes} for form, a in self.artifacts.items()},
                "judgements": {form: judgement.to_dict() for form, judgement in self.judgements.items()},
                "tries": [one.to_dict() for one in self.tries],
            }
        )

    def write(self, name: str = "report") -> None:
        """Write the report as `NAME.html`, `NAME.md`, and everything as `result.json`, into the folder."""
        self.to_json(self.folder / "result.json", overwrite=True)
        self.report.save(self.folder / f"{name}.html", overwrite=True)
        self.report.to_markdown(self.folder / f"{name}.md", overwrite=True)

    def _said(self) -> list[str]:
        """Return what came of it: for each format a sentence."""
        lines = []
        for form in self.formats:
            if form in self.artifacts:
                artifact = self.artifacts[form]
                place = self._place(form)
                file = None if place is None else self.tries[place].file(form)
                more = "" if file is None else _cost(file, self.minimize)
                lines.append(f"{artifact.path}: {artifact.nbytes:,} bytes{more}; {self.judgements[form]}.")
                continue
            nearest = self.nearest(form)
            text = f"{named(form)}: no file is shown to keep the budget, and none is shipped."
            if nearest is not None:
                tried, file = nearest
                text += f" Nearest is {file.path} ({tried.name}): {file.proof or file.selection}."
            lines.append(text)
        if self.ended:
            lines.append(f"The search is not done ({self.ended}): the same call goes on with it.")
            final = [form for form in self.formats if any(_failed(one.file(form)) for one in self.tries)]
            if final:
                lines.append(
                    f"Of {' and '.join(final)} it ships nothing smaller any more, since a file failed its proof: for "
                    "that search in another output_dir, with other validation samples."
                )
        return lines


def _cost(file: TriedFile, minimize: str) -> str:
    """Return what a file was chosen by, to stand behind its bytes; "" where it is these."""
    value = file.cost(minimize)
    if minimize == "latency":
        return f", {value:.3g} ms"
    what = {"zip": "deflated", "arena": "of RAM", "size": "" if file.flash is None else "of flash"}[minimize]
    return what and f", {value:,.0f} {what}"


def _failed(file: TriedFile | None) -> bool:
    return file is not None and file.proof is not None and file.proof.verdict != "holds"
