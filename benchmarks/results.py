"""How every benchmark shows and keeps its figures."""

from __future__ import annotations

import json
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

FOLDER = pathlib.Path(__file__).parent / "results"


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table."""
    table = Table(title=title, box=box.SIMPLE)
    for heading in rows[0]:
        table.add_column(heading, justify="left" if isinstance(rows[0][heading], str) else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


def save(name: str, rows: list[dict[str, Any]], command: str) -> None:
    """Write rows, the command that made them and the machine to `benchmarks/results/NAME.json`."""
    from tfcompress.core.atomic_files import write_text
    from tfcompress.evaluation.compare import environment

    FOLDER.mkdir(exist_ok=True)
    content = {"command": command, "environment": environment(), "rows": rows}
    write_text(FOLDER / f"{name}.json", json.dumps(content, indent=1) + "\n")


def rows_of(name: str) -> list[dict[str, Any]]:
    """Return the rows of one benchmark."""
    rows: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text())["rows"]
    return rows


def mean_and_each(values: Sequence[float]) -> str:
    """Return the mean of the seeds, and each in brackets if there are several.

    >>> mean_and_each([1, 2]), mean_and_each([1])
    ('1.50 (1.00, 2.00)', '1.00')
    """
    each = f" ({', '.join(f'{value:.2f}' for value in values)})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{each}"


def cached(path: pathlib.Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return figures from a file, where a job that was interrupted left them; else make, print and keep them."""
    if path.exists():
        known: dict[str, Any] = json.loads(path.read_text())
        return known
    from tfcompress.core.atomic_files import write_text

    figures = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(figures))
    print(path.stem, figures, flush=True)
    return figures


def collected(name: str, command: str, key: dict[str, Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a row of `benchmarks/results/NAME.json`, made and added to it if it isn't there.

    So a benchmark of many hours can be cut short and goes on another day; delete the file to begin anew.

    Args:
        name: Of the file.
        command: That makes it.
        key: What the row begins with, and is known by.
        make: Returns the figures that follow.
    """

    def known() -> list[dict[str, Any]]:
        return rows_of(name) if (FOLDER / f"{name}.json").exists() else []

    for row in known():
        if key.items() <= row.items():
            return row
    row = {**key, **make()}
    save(name, [*known(), row], command)  # Read anew: another job may have added to it.
    print(row, flush=True)
    return row
