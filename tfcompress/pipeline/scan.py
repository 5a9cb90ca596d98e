"""What a scan finds: a table, a picture, and a page of both."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfcompress.core.atomic_files import check_target, write_text
from tfcompress.evaluation.compare import environment
from tfcompress.evaluation.page.assemble import scan_content
from tfcompress.pipeline.scan_plots import save
from tfcompress.reports.html import to_html
from tfcompress.reports.json_document import Document
from tfcompress.reports.markdown import to_markdown
from tfcompress.reports.tables import to_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Self

    from tfcompress.reports.content import Content


class Scan(Document):
    """What a scan finds, which is a table and a picture, too."""

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        raise NotImplementedError

    def headings(self) -> list[str]:
        """Return the titles of the table's columns."""
        raise NotImplementedError

    def cells(self) -> list[list[str]]:
        """Return the table's cells, a list per row."""
        raise NotImplementedError

    def caption(self) -> str:
        """Return the line below the table."""
        raise NotImplementedError

    def draw(self) -> Figure:
        """Return the picture."""
        raise NotImplementedError

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> Self:
        """Return what `to_dict` gave the fields of, but for the version."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Self:
        """Return what `to_json` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it can't be read.
            ValueError: the file holds something else.
        """
        try:
            fields = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
            version = fields.pop("version")
            if version != 1:
                raise ValueError(f"version {version}")
            return cls.of_fields(fields)
        except OSError as error:
            raise type(error)(f"Expected a file that can be read. Received: {path} ({error.strerror}).") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"Expected a file that {cls.__name__}.to_json wrote. Received: {path} ({type(error).__name__}: "
                f"{error}). Name another file, or delete it to begin anew."
            ) from error

    def table(self, width: int = 100) -> str:
        """Return one table as text of at most `width` columns."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for place, title in enumerate(self.headings()):
            how: dict[str, Any] = {"justify": "right", "no_wrap": True} if place else {"overflow": "fold"}
            table.add_column(title, **how)
        for row in self.cells():
            table.add_row(*map(Text, row))
        return to_text(table, self.caption(), width=width)

    def __str__(self) -> str:
        return self.table()

    def plot(self, path: str | os.PathLike[str] | None = None, *, overwrite: bool = False) -> Any:
        """Draw the metric: a line for each layer, or for each set of data.

        Args:
            path: ends in `.png`; None: nothing is written.
            overwrite: whether an existing file may be replaced.

        Returns:
            The path, or without one matplotlib's `Figure`.

        Raises:
            FileExistsError: the file exists, and `overwrite` is False.
            FileNotFoundError: the folder doesn't exist.
            ValueError: another suffix.
        """
        target = None if path is None else check_target(path, ".png", overwrite)
        figure = self.draw()
        return figure if target is None else save(figure, target)

    def save(
        self, path: str | os.PathLike[str], *, about: Mapping[str, Any] | None = None, overwrite: bool = False
    ) -> pathlib.Path:
        """Write one HTML page to be looked at; it needs no other file and no network.

        Args:
            path: ends in `.html`.
            about: what else the page should say, as for `tfc.compare`.
            overwrite: whether an existing file may be replaced.

        Returns:
            The path.

        Raises:
            FileExistsError: the file exists, and `overwrite` is False.
            FileNotFoundError: the folder doesn't exist.
            ValueError: another suffix.
        """
        target = check_target(path, ".html", overwrite)
        return write_text(target, to_html(self._content(about)))

    def to_markdown(
        self, path: str | os.PathLike[str], *, about: Mapping[str, Any] | None = None, overwrite: bool = False
    ) -> pathlib.Path:
        """Write what the page says as Markdown; its arguments are those of `save`, but for the suffix, `.md`."""
        target = check_target(path, ".md", overwrite)
        return write_text(target, to_markdown(self._content(about)) + "\n")

    def _content(self, about: Mapping[str, Any] | None) -> Content:
        return scan_content(self, dict(about or {}), environment())
