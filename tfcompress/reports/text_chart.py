"""Charts made of letters, which every reader of Markdown shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfcompress.reports.charts import Point

WIDTH, HEIGHT = 64, 13
"""Of the field between the axes, in letters and lines."""

PLACES = [(row, column) for reach in range(0, 9) for row in (0, -1, 1) for column in dict.fromkeys((reach, -reach))]
"""Where a number may stand beside its point, where others are close: (lines, letters) away."""


def scatter_text(points: Sequence[Point], x_label: str, y_label: str, colour_label: str) -> str:
    """Return a chart of numbered points, and below it their colours as numbers, the least first.

    Args:
        points: one per candidate.
        x_label: of the horizontal axis, which is logarithmic.
        y_label: of the vertical axis.
        colour_label: what the colour stands for.

    Example:

    >>> points = Point(100.0, 95.0, colour=0.2), Point(25.0, 94.0, colour=0.1)
    >>> lines = scatter_text(points, "file, kB", "accuracy, %", "latency, ms").splitlines()
    >>> lines[2].split(), lines[12].split(), lines[-1]
    (['|', '1'], ['|', '2'], 'latency, ms: 2: 0.1, 1: 0.2')
    """
    shown = [(place + 1, point) for place, point in enumerate(points) if point.x > 0 and math.isfinite(point.y)]
    if not shown:
        return ""
    xs, ys = [math.log(point.x) for _, point in shown], [point.y for _, point in shown]
    (left, right), (low, high) = _ends(xs, 0.1), _ends(ys, 0.01 * abs(ys[0]) or 1.0)
    field: dict[tuple[int, int], str] = {}
    for (number, _), x, y in zip(shown, xs, ys, strict=True):
        row = round((HEIGHT - 1) * (high - y) / (high - low))
        column = round((WIDTH - 2) * (x - left) / (right - left))
        _write(field, str(number), row, column)
    labels = {row: f"{high - (high - low) * row / (HEIGHT - 1):.4g}" for row in range(0, HEIGHT, 3)}
    margin = max(map(len, labels.values()))
    lines = [y_label]
    for row in range(HEIGHT):
        said = "".join(field.get((row, column), " ") for column in range(WIDTH)).rstrip()
        lines.append(f"{labels.get(row, ''):>{margin}} {'+' if row in labels else '|'}{said}")
    lines.append(f"{'':>{margin}} +{'-' * WIDTH}")
    ends = f"{math.exp(left):,.4g}", f"{math.exp(right):,.4g}"
    lines.append(f"{'':>{margin}}  {ends[0]}{x_label:^{WIDTH - sum(map(len, ends))}}{ends[1]}")
    timed = sorted((point.colour, number) for number, point in shown if point.colour is not None)
    if timed:
        lines.append(f"{colour_label}: {', '.join(f'{number}: {colour:.3g}' for colour, number in timed)}")
    return "\n".join(line.rstrip() for line in lines)


def _ends(values: Sequence[float], least: float) -> tuple[float, float]:
    """Return the ends of an axis, a little apart from the values, and from each other where these are one."""
    room = 0.06 * (max(values) - min(values)) or least
    return min(values) - room, max(values) + room


def _write(field: dict[tuple[int, int], str], text: str, row: int, column: int) -> None:
    """Write a number at a place, or beside it where another one is; around each there is a blank."""
    for down, aside in PLACES:
        start, line = column + aside, row + down
        cells = [(line, start + place) for place in range(-1, len(text) + 1)]
        if 0 <= line < HEIGHT and start >= 0 and start + len(text) <= WIDTH and field.keys().isdisjoint(cells):
            break
    else:
        line, start = row, column
    field.update({(line, start + place): letter for place, letter in enumerate(text)})
