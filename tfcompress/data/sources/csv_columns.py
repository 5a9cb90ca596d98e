"""What the columns of `.csv` files hold, found in one pass in which nothing is kept."""

from __future__ import annotations

import csv
import dataclasses
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tfcompress.core.arguments import short

MOST_CATEGORIES = 1000
"""Of one column: a text that is another in each row is no category."""


@dataclasses.dataclass
class Column:
    """What the cells of a column are, as far as they were seen.

    Attributes:
        name: From the first line.
        numeric: Whether all are numbers.
        whole: Whether all are whole numbers.
        texts: What they are, each once; no more than `MOST_CATEGORIES` and one.
        smallest: The smallest number.
        largest: The largest number.
        text_at: The first line with a text.
        empty_at: The first line with an empty cell.
    """

    name: str
    numeric: bool = True
    whole: bool = True
    texts: set[str] = dataclasses.field(default_factory=set)
    smallest: float = math.inf
    largest: float = -math.inf
    text_at: int = 0
    empty_at: int = 0

    def see(self, cell: str, line: int) -> None:
        """Take in a cell."""
        if len(self.texts) <= MOST_CATEGORIES:
            self.texts.add(cell)
        if not cell.strip():
            self.empty_at = self.empty_at or line
            return
        try:
            value = float(cell)
        except ValueError:
            self.numeric, self.text_at = False, self.text_at or line
            return
        if not math.isfinite(value):
            raise ValueError(f"Expected finite numbers in column {self.name!r}. Received: {cell!r} in line {line}.")
        self.whole = self.whole and value.is_integer() and cell.strip().lstrip("+-").isdigit()
        self.smallest, self.largest = min(self.smallest, value), max(self.largest, value)

    def check(self) -> None:
        """Raise ValueError if the column is neither of numbers nor of categories."""
        if self.numeric and self.empty_at:
            raise ValueError(
                f"Expected a number in every row of column {self.name!r}. Received: an empty cell in line "
                f"{self.empty_at}. Fill it in, or leave the row out."
            )
        if not self.numeric and len(self.texts) > MOST_CATEGORIES:
            raise ValueError(
                f"Expected column {self.name!r} to hold numbers, or at most {MOST_CATEGORIES} different texts. "
                f"Received: more, the first in line {self.text_at}. Take the column out, or make categories of it."
            )

    @property
    def categories(self) -> list[str]:
        """The texts in the order of the alphabet."""
        return sorted(self.texts)


@dataclasses.dataclass(frozen=True)
class Table:
    """What was found in files that were gone through once.

    Attributes:
        columns: By name, in the order of the file.
        rows: How many each file has.
        separator: Between cells.
    """

    columns: Mapping[str, Column]
    rows: Mapping[pathlib.Path, int]
    separator: str


def scan(paths: list[pathlib.Path]) -> Table:
    """Go through files of the same columns once.

    Raises:
        ValueError: If a file is no table, or a column holds neither numbers nor categories.
    """
    columns: dict[str, Column] = {}
    rows = {}
    separator = ""
    for path in paths:
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                head = file.readline()
                separator = separator or max(",;\t", key=head.count)
                names = next(csv.reader([head], delimiter=separator), [])
                columns = columns or {name: Column(name) for name in names}
                _check_names(path, names, list(columns))
                rows[path] = sum(1 for _ in _rows(file, path, columns, separator))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"Expected a .csv file in UTF-8. Received: {path}, which is none: {error}.") from error
        if not rows[path]:
            raise ValueError(f"Expected rows below the first line. Received: {path}, which has none.")
    for column in columns.values():
        column.check()
    return Table(columns, rows, separator)


def _check_names(path: pathlib.Path, names: list[str], wanted: list[str]) -> None:
    """Raise ValueError unless the first line of a file has the names of columns."""
    if len(set(names)) < len(names) or not all(names) or len(names) < 2:
        raise ValueError(
            f"Expected the names of at least two columns in the first line of {path}, each once. Received: "
            f"{short(names)}."
        )
    if names != wanted:
        raise ValueError(f"Expected the columns {', '.join(wanted)}. Received: {', '.join(names)} in {path}.")


def _rows(file: Any, path: pathlib.Path, columns: Mapping[str, Column], separator: str) -> Iterator[None]:
    """Take in the rows of a file, one at a time."""
    reader = csv.reader(file, delimiter=separator)
    for row in reader:
        line = reader.line_num + 1
        if len(row) != len(columns):
            raise ValueError(
                f"Expected {len(columns)} cells in each line of {path}. Received: {len(row)} in line {line}."
            )
        for cell, column in zip(row, columns.values(), strict=True):
            column.see(cell, line)
        yield
