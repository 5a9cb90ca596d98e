"""What a report holds, before it is written as HTML or as Markdown: sections of texts, tables and charts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what it says.
        mark: "better", "worse", or "grey" for a difference that may be chance; "" for all else.
        tint: how strongly its ground is coloured, 0..1.
        svg: a small picture below the text; Markdown leaves it out.
        badge: the number that charts show in place of the name.
        within: what belongs to the text, such as its interval, and stands below it on a phone.
    """

    text: str
    mark: str = ""
    tint: float = 0.0
    svg: str = ""
    badge: str = ""
    within: str = ""


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph; `soft`: in the background."""

    kind: ClassVar[str] = "text"
    text: str
    soft: bool = True


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names and what is said of each."""

    kind: ClassVar[str] = "facts"
    pairs: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose first column names the rows.

    Attributes:
        headings: of the columns.
        rows: cells, a list per row.
        caption: what it shows.
        matrix: whether rows and columns have the same names, as in a confusion matrix.
        strong: the place of the row that the others are compared with, or None.
    """

    kind: ClassVar[str] = "table"
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    matrix: bool = False
    strong: int | None = None


@dataclasses.dataclass(frozen=True)
class Chart:
    """A picture.

    Attributes:
        title: what it shows.
        svg: draws it: an `<svg>` element, which is trusted. Markdown leaves it out.
        table: its numbers, where they stand nowhere else.
        wide: whether it keeps its width where the page is narrower, so that its text stays readable.
        text: the same made of letters, for Markdown.
    """

    kind: ClassVar[str] = "chart"
    title: str
    svg: Callable[[], str]
    table: Table | None = None
    wide: bool = False
    text: str = ""


@dataclasses.dataclass(frozen=True)
class Key:
    """Which colour stands for what in the charts that follow: (name, CSS colour)."""

    kind: ClassVar[str] = "key"
    pairs: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Group:
    """Blocks side by side, as far as the page's width allows."""

    kind: ClassVar[str] = "group"
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a report with a title; `folded`: closed until the reader opens it."""

    kind: ClassVar[str] = "section"
    title: str
    blocks: Sequence[Block]
    folded: bool = False


Block: TypeAlias = "Text | Facts | Table | Chart | Key | Group | Section"


@dataclasses.dataclass(frozen=True)
class Content:
    """A whole report.

    Attributes:
        title: of the page.
        subject: what it is about, in few words.
        verdict: the result, in one sentence.
        blocks: all else.
    """

    title: str
    subject: str
    verdict: str
    blocks: Sequence[Block]
