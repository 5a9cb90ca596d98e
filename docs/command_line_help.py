"""Puts the help of every job into the page that asks for it, while MkDocs builds the pages."""

from __future__ import annotations

import os
import sys
from typing import Any
from unittest import mock

MARK = "<!-- jobs -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page with the help of each job, as `tfcompress JOB --help` prints it, in place of the mark."""
    return markdown.replace(MARK, jobs()) if MARK in markdown else markdown


def jobs() -> str:
    """Return a section for each job."""
    with mock.patch.object(sys, "argv", ["tfcompress"]):  # as the command the package imports no TensorFlow
        from tfcompress.cli import help_text
        from tfcompress.cli.jobs import every_job

    os.environ["COLUMNS"] = "100"  # of the help, wherever it is built
    sections = [f"## {name}\n\n```text\n{help_text.of_job(name, job)}\n```" for name, job in every_job().items()]
    return "\n\n".join(sections)
