"""Reports as pages and as Markdown, and what goes into them."""

from __future__ import annotations

import pathlib
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcompress.cli.output_paths import new_file

if TYPE_CHECKING:
    from tfcompress.pipeline.scan import Scan

WIDTH = 140
"""Columns of a table where there is room."""


def page_files(values: FlagValues, overwrite: bool, here: bool = True) -> list[pathlib.Path]:
    """Return the files of --html and --markdown; refuse those that can't be written.

    Args:
        values: The job's flags.
        overwrite: Whether files that are there may be replaced.
        here: Whether this process writes them.
    """
    given = ((values.html, ".html"), (values.markdown, ".md"))
    return [new_file(path, suffix, overwrite, here=here) for path, suffix in given if path]


def write_pages(report: Any, files: Sequence[pathlib.Path], overwrite: bool) -> None:
    """Write a report to each file, as its suffix says."""
    for file in files:
        write = report.save if file.suffix == ".html" else report.to_markdown
        write(file, overwrite=overwrite)


def scans_of(values: FlagValues) -> list[Scan]:
    """Return what the files of --scans hold."""
    from tfcompress.pipeline.scan_files import read_scan

    return [read_scan(path) for path in values.scans or ()]


def table_width() -> int:
    """Return how many columns a table may have: those of the terminal, if there is one."""
    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns) if sys.stdout.isatty() else WIDTH
