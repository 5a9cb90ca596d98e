"""Histograms of a tensor before and after compression, small enough for one in every row of a table."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Sequence

import numpy as np

BINS = 48
WIDTH, HEIGHT, TEXT = 240, 46, 62
"""Of the picture: the bars end above the axis, the numbers stand below it."""


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How often values lie in each of equally wide bins; zeros are left out, whose share is told elsewhere.

    Attributes:
        low: where the first bin begins.
        high: where the last one ends.
        before: counts.
        after: counts.
    """

    low: float
    high: float
    before: tuple[int, ...]
    after: tuple[int, ...]


def histogram(before: np.ndarray, after: np.ndarray) -> Histogram | None:
    """Return the histogram of two tensors on one scale; `None` if they hold nothing but zeros.

    >>> histogram(np.array([0.0, 1.0, 5.0]), np.array([0.0, 0.0, 5.0])).after[-1]
    1
    """
    both = [part[np.isfinite(part) & (part != 0)] for part in (before.ravel(), after.ravel())]
    if not any(part.size for part in both):
        return None
    joined = np.concatenate(both)
    low, high = float(joined.min()), float(joined.max())
    if 0 < low < high / BINS:  # zeros are left out, but not the place where they would be
        low = 0.0
    low, high = (low, high) if high > low else (low - abs(low) / 2, high + abs(high) / 2)
    counts = [tuple(np.histogram(part, BINS, (low, high))[0].tolist()) for part in both]
    return Histogram(low, high, counts[0], counts[1])


def picture(shown: Histogram, title: str, ends: tuple[float, float] | None = None, marks: Sequence[float] = ()) -> str:
    """Draw a histogram: before as an area, after as a line, and the grid that the values after lie on.

    Args:
        shown: what to draw.
        title: for screen readers.
        ends: the least and the largest number of the grid; None: there is no grid.
        marks: further numbers of the grid to be marked.

    Returns:
        An `<svg>` element, coloured by the page.
    """
    low, high = shown.low, shown.high
    if ends is not None:
        low, high = min(low, ends[0]), max(high, ends[1])

    def x(value: float) -> float:
        return round(1 + (WIDTH - 2) * (value - low) / (high - low), 1)

    start, end = x(shown.low), x(shown.high)
    before = [f'<path class="before" d="{_outline(shown.before, start, end)}"/>'] if any(shown.before) else []
    parts = [
        *before,
        f'<path class="after" d="{_outline(shown.after, start, end)}"/>',
        f'<path class="axis" d="M0 {HEIGHT}H{WIDTH}"/>',
    ]
    if ends is not None:
        lines = "".join(f"M{x(value)} 0V{HEIGHT + 3}" for value in ends)
        lines += "".join(f"M{x(value)} {HEIGHT - 4}v7" for value in marks if value not in ends)
        parts.append(f'<path class="grid" d="{lines}"/>')
    parts.append(f'<text x="0" y="{TEXT - 4}">{low:.3g}</text>')
    parts.append(f'<text x="{WIDTH}" y="{TEXT - 4}" text-anchor="end">{high:.3g}</text>')
    if low < 0 < high and 40 < x(0) < WIDTH - 40:
        parts.append(f'<text x="{x(0)}" y="{TEXT - 4}" text-anchor="middle">0</text>')
    label = html.escape(title)
    return (
        f'<svg class="spread" viewBox="0 0 {WIDTH} {TEXT}" role="img" aria-label="{label}"><title>{label}</title>'
        f"{''.join(parts)}</svg>"
    )


def _outline(counts: tuple[int, ...], start: float, end: float) -> str:
    """Return the steps of a histogram as a path; heights are square roots, so that tails are seen."""
    top = math.sqrt(max(*counts, 1))
    width = (end - start) / len(counts)
    steps = [f"M{start} {HEIGHT}"]
    for place, count in enumerate(counts):
        steps.append(f"V{HEIGHT - (HEIGHT - 2) * math.sqrt(count) / top:.1f}H{start + width * (place + 1):.1f}")
    return "".join(steps) + f"V{HEIGHT}"
