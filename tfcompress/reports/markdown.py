"""A report as Markdown, with the tables that GitHub knows."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from tfcompress.reports.content import Block, Cell, Chart, Content, Facts, Group, Section, Table, Text

SPECIAL = re.compile(r"([\\`*_\[\]|~])")
MARKS = {"better": " (better)", "worse": " (worse)", "grey": " (may be chance)"}


def to_markdown(content: Content) -> str:
    """Return the text; charts are made of letters, or their tables, and pictures in cells are left out.

    >>> print(to_markdown(Content("Report", "", "Half as large.", [Text("a | b")])))
    # Report
    <BLANKLINE>
    **Half as large.**
    <BLANKLINE>
    a \\| b
    """
    head = [f"# {escaped(content.title)}", escaped(content.subject)]
    head.append(f"**{escaped(content.verdict)}**" if content.verdict else "")
    return "\n\n".join(part for part in (*head, *_blocks(content.blocks, 2)) if part)


def escaped(text: str) -> str:
    """Return text as it is to be read: neither HTML nor Markdown, and on one line.

    >>> escaped("<b> a_b")
    '&lt;b&gt; a\\\\_b'
    """
    return SPECIAL.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _blocks(blocks: Sequence[Block], level: int) -> Iterator[str]:
    for block in blocks:
        if isinstance(block, Section):
            yield f"{'#' * min(level, 6)} {escaped(block.title)}"
            yield from _blocks(block.blocks, level + 1)
        elif isinstance(block, Group):
            yield from _blocks(block.blocks, level)
        elif isinstance(block, Text):
            yield escaped(block.text)
        elif isinstance(block, Facts):
            yield "\n".join(f"- {escaped(name)}: {escaped(said)}" for name, said in block.pairs)
        elif isinstance(block, Table):
            yield _table(block)
        elif isinstance(block, Chart) and block.text:
            yield "\n".join(f"    {line}" for line in block.text.splitlines())
        elif isinstance(block, Chart) and block.table is not None:
            yield _table(block.table)


def _table(table: Table) -> str:
    # A column of pictures has no text.
    kept = [place for place in range(len(table.headings)) if not place or any(row[place].text for row in table.rows)]
    lines = [_row(escaped(table.headings[place]) for place in kept)]
    lines.append(_row("---:" if place else "---" for place in kept))
    lines += [_row(_cell(row[place]) for place in kept) for row in table.rows]
    caption = f"{escaped(table.caption)}\n\n" if table.caption else ""
    return caption + "\n".join(lines)


def _cell(cell: Cell) -> str:
    text = f"{cell.text} {cell.within}".rstrip()
    return (f"({cell.badge}) " if cell.badge else "") + escaped(text) + MARKS.get(cell.mark, "")


def _row(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"
