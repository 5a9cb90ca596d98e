"""What the columns of `.csv` files hold, found in one pass in which nothing is kept."""

from __future__ import annotations

import csv
import dataclasses
import math
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tfcompress.core.arguments import short

MOST_CATEGORIES = 1000
"""Of one column: a text that is another in each row is no category."""

LARGEST = float(np.finfo("float32").max)
"""In which models compute."""

MISSING = {"", "?", "-", ".", "na", "n/a", "#na", "#n/a", "<na>", "nan", "-nan", "null", "none"}
"""How tables say that a number isn't known."""

ADVICE = "Write that line; pandas' to_csv leaves out the numbers of rows, which have no name, with index=False."

_COMMA = re.compile(r"[+-]?(\d{1,3}(,\d{3})+(\.\d*)?|\d+,\d+)")
""""3,14", or "1,234"."""


@dataclasses.dataclass
class Column:
    """What the cells of a column are, as far as they were seen.

    Attributes:
        name: From the first line.
        numeric: Whether all are numbers.
        whole: Whether all are whole numbers.
        texts: What they are, each once; no more than `MOST_CATEGORIES` and one.
        words: Those that are no numbers, with the first line of each; no more either.
        smallest: The smallest number.
        largest: The largest number.
        empty_at: The first line with an empty cell.
    """

    name: str
    numeric: bool = True
    whole: bool = True
    texts: set[str] = dataclasses.field(default_factory=set)
    words: dict[str, int] = dataclasses.field(default_factory=dict)
    smallest: float = math.inf
    largest: float = -math.inf
    empty_at: int = 0

    def see(self, cell: str, line: int) -> None:
        """Take in a cell."""
        cell = cell.strip()
        if len(self.texts) <= MOST_CATEGORIES:
            self.texts.add(cell)
        if not cell:
            self.empty_at = self.empty_at or line
            return
        try:
            value = float(cell)
        except ValueError:
            self.numeric = False
            if len(self.words) <= MOST_CATEGORIES:
                self.words.setdefault(cell, line)
            return
        if not abs(value) <= LARGEST:
            raise ValueError(
                f"Expected finite numbers in column {self.name!r}. Received: {cell!r} in line {line}. Fill it in, or "
                "leave the row out."
            )
        self.whole = self.whole and value.is_integer() and cell.lstrip("+-").isdigit()
        self.smallest, self.largest = min(self.smallest, value), max(self.largest, value)

    def check(self) -> None:
        """Raise ValueError if the column is neither of numbers nor of categories."""
        if self.numeric and self.empty_at:
            raise ValueError(
                f"Expected a number in every row of column {self.name!r}. Received: an empty cell in line "
                f"{self.empty_at}. Fill it in, or leave the row out."
            )
        word, line = next(iter(self.words.items()), ("", 0))
        if self.words and self.smallest <= self.largest and all(text.lower() in MISSING for text in self.words):
            raise ValueError(
                f"Expected a number in every row of column {self.name!r}. Received: {word!r} in line "
                f"{line}. Fill it in, or leave the row out."
            )
        if self.words and all(_COMMA.fullmatch(text) for text in self.words):
            raise ValueError(
                f"Expected numbers with a decimal point, and nothing between thousands. Received: {word!r} in column "
                f"{self.name!r}, line {line}. Write the table anew: pandas.read_csv reads such numbers with "
                "decimal=',' or thousands=','."
            )
        if not self.numeric and len(self.texts) > MOST_CATEGORIES:
            raise ValueError(
                f"Expected column {self.name!r} to hold numbers, or at most {MOST_CATEGORIES} different texts. "
                f"Received: more, the first in line {line}. Take the column out, or make categories of it."
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
                names, found = read_header(file)
                separator = separator or found
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


def read_header(file: Iterable[str]) -> tuple[list[str], str]:
    """Return the names in the first line of a file that is open, and what separates them.

    >>> read_header(["size; kind", "1; big"])
    (['size', 'kind'], ';')
    """
    head = next(iter(file), "")
    separator = max(",;\t", key=head.count)
    return [name.strip() for name in next(csv.reader([head], delimiter=separator), [])], separator


def _check_names(path: pathlib.Path, names: list[str], wanted: list[str]) -> None:
    """Raise ValueError unless the first line of a file has the names of columns."""
    if len(set(names)) < len(names) or not all(names) or len(names) < 2:
        raise ValueError(
            f"Expected the names of at least two columns in the first line of {path}, each once. Received: "
            f"{short(names)}. {ADVICE}"
        )
    if names != wanted:
        raise ValueError(f"Expected the columns {', '.join(wanted)}. Received: {', '.join(names)} in {path}.")


def _rows(file: Any, path: pathlib.Path, columns: Mapping[str, Column], separator: str) -> Iterator[None]:
    """Take in the rows of a file, one at a time; empty lines at its end are none."""
    reader = csv.reader(file, delimiter=separator)
    empty = 0
    for row in reader:
        line = reader.line_num + 1
        if not row:
            empty = empty or line
            continue
        if empty:
            raise ValueError(f"Expected rows without empty lines between them. Received: {path}, line {empty}.")
        if len(row) != len(columns):
            raise ValueError(
                f"Expected {len(columns)} cells in each line of {path}. Received: {len(row)} in line {line}."
            )
        for cell, column in zip(row, columns.values(), strict=True):
            column.see(cell, line)
        yield
