"""What `tfc.compare` found, as a page, as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from typing import Any

from tfcompress.core.arguments import short
from tfcompress.core.atomic_files import check_target, write_text
from tfcompress.evaluation.comparison_table import ComparisonTable
from tfcompress.evaluation.layer_changes import LayerChanges
from tfcompress.evaluation.layer_source import LayerSource
from tfcompress.evaluation.page.assemble import Scan, content
from tfcompress.evaluation.page.layers import layer_sections
from tfcompress.evaluation.verdict import headline, verdict
from tfcompress.reports.content import Content
from tfcompress.reports.html import to_html
from tfcompress.reports.markdown import to_markdown
from tfcompress.reports.tables import plain

TITLE = "Compression report"


@dataclasses.dataclass(frozen=True, eq=False)
class Report(ComparisonTable):
    """What `tfc.compare` found.

    Attributes:
        candidates: one `Candidate` per model, in the order given.
        baseline: the name of the one that the others are compared with.
        environment: versions, processor, threads and time of the run.
        about: as given to `tfc.compare`.
        scans: as given to `tfc.compare`.
        layer_source: the models, files and samples that `layers` is found from; None: it is empty.
    """

    scans: tuple[Scan, ...] = ()
    layer_source: LayerSource | None = dataclasses.field(default=None, repr=False)

    @functools.cached_property
    def layers(self) -> tuple[LayerChanges, ...]:
        """What compression did to each layer; found when it is first asked for."""
        return () if self.layer_source is None else self.layer_source.changes(self.baseline)

    @property
    def verdict(self) -> str:
        """The result in one sentence.

        It is about the smallest file among those that aren't worse than the baseline, as far as the samples can show.
        """
        return verdict(self)

    def save(self, path: str | os.PathLike[str], *, title: str = TITLE, overwrite: bool = False) -> pathlib.Path:
        """Write one HTML page to be looked at; it needs no other file and no network.

        Args:
            path: ends in `.html`.
            title: of the page.
            overwrite: whether an existing file may be replaced.

        Returns:
            The path.

        Raises:
            FileExistsError: the file exists, and `overwrite` is False.
            FileNotFoundError: the folder doesn't exist.
            ValueError: another suffix.
        """
        target = check_target(path, ".html", overwrite)
        return write_text(target, to_html(self._content(title)))

    def to_markdown(self, path: str | os.PathLike[str], *, title: str = TITLE, overwrite: bool = False) -> pathlib.Path:
        """Write what the page says as Markdown: its texts and tables.

        Args:
            path: ends in `.md`.
            title: as for `save`.
            overwrite: whether an existing file may be replaced.

        Returns:
            The path.

        Raises:
            FileExistsError: the file exists, and `overwrite` is False.
            FileNotFoundError: the folder doesn't exist.
            ValueError: another suffix.
        """
        target = check_target(path, ".md", overwrite)
        return write_text(target, to_markdown(self._content(title)) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        scans = [{"kind": type(scan).__name__.lower(), **scan.to_dict()} for scan in self.scans]
        found: dict[str, Any] = {"verdict": self.verdict, "best": headline(self), "scans": scans}
        found["layers"] = [dataclasses.asdict(one) for one in self.layers]
        return {**super().to_dict(), **plain(found)}

    def _content(self, title: Any) -> Content:
        if not isinstance(title, str):
            raise TypeError(f"Expected title to be text. Received: title={short(title)}.")
        return content(self, title, layer_sections(self.layers), self.scans)
