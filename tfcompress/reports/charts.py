"""Charts as SVG that stands inside a page and takes the page's colour of text."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010203"
"""Drawn by matplotlib, then replaced by the page's own colour of text: right in light and in dark."""
NAMED = 40
"""Classes whose names have room beside a heat map."""

BASELINE, GOOD, BAD = "#8a94a3", "#2da44e", "#e5534b"

MODELS = ("#2f81c7", "#d9822b", "#2a9d8f", "#c2478f", "#8f6fd1", "#b8860b", "#5b8c3a", "#d1495b", "#4aa3c7", "#9c6b4e")
"""Colours of models in one chart; seen on white and on black alike."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of a scatter chart.

    Attributes:
        x: above 0.
        y: its height.
        interval: (low, high) of the height, or None.
        colour: a number, or None.
    """

    x: float
    y: float
    interval: tuple[float, float] | None = None
    colour: float | None = None


def drawn(draw: Callable[[], Figure], title: str) -> str:
    """Return what `draw` gives as an `<svg>` element: its texts and axes take the page's colour."""
    from matplotlib import rc_context

    roles = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    with rc_context({**dict.fromkeys(roles, INK), "axes.facecolor": "none"}):
        return to_svg(draw(), title)


def scatter(points: Sequence[Point], x_label: str, y_label: str, colour_label: str, baseline: int) -> str:
    """Draw candidates as numbered points; the colour of each says how fast it is.

    Args:
        points: one per candidate.
        x_label: of the horizontal axis, which is logarithmic.
        y_label: of the vertical axis.
        colour_label: what the colour stands for.
        baseline: the place of the candidate that has a square.

    Returns:
        An `<svg>` element.
    """
    return to_svg(scatter_figure(points, x_label, y_label, colour_label, baseline), f"{y_label} against {x_label}")


def scatter_figure(
    points: Sequence[Point],
    x_label: str,
    y_label: str,
    colour_label: str,
    baseline: int | None = None,
    *,
    front: Sequence[int] = (),
    chosen: int | None = None,
    limit: float | None = None,
    numbered: Collection[int] | None = None,
) -> Figure:
    """Return the picture of `scatter`, of tries, too.

    Args:
        points: one per candidate.
        x_label: of the horizontal axis, which is logarithmic.
        y_label: of the vertical axis.
        colour_label: what the colour stands for.
        baseline: the place of the candidate that has a square; None: none has.
        front: places of those that a line joins, in its order.
        chosen: the place of the one that has a ring.
        limit: a height at which a line is drawn.
        numbered: places of those that have numbers; None: all.
    """
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure

    colours = np.array([np.nan if point.colour is None else point.colour for point in points], float)
    timed = np.isfinite(colours)
    figure = Figure(figsize=(4.4, 3.3), layout="constrained")
    axis = figure.subplots()
    spread = Normalize() if not timed.any() or colours[timed].min() <= 0 else LogNorm()
    if timed.any():
        spread.autoscale(colours[timed])
    fill = _speeds()(spread(np.where(timed, colours, np.nan)))
    if limit is not None:
        axis.axhline(limit, color=BAD, linewidth=0.8, linestyle="--", zorder=0)
    if front:
        axis.plot(
            [points[one].x for one in front], [points[one].y for one in front], color=INK, linewidth=0.9, zorder=1
        )
    for place, point in enumerate(points):
        if point.interval is not None:
            axis.plot([point.x] * 2, point.interval, color=BASELINE, linewidth=1.0, zorder=1)
        shape: dict[str, Any] = {"marker": "s" if place == baseline else "o", "markersize": 7, "linestyle": "none"}
        colour = fill[place] if timed[place] else "none"
        axis.plot([point.x], [point.y], color=colour, markeredgecolor=INK, markeredgewidth=0.7, zorder=2, **shape)
        if place == chosen:
            ring: dict[str, Any] = {"marker": "o", "markersize": 13, "fillstyle": "none", "linestyle": "none"}
            axis.plot([point.x], [point.y], color=GOOD, markeredgewidth=1.8, zorder=3, **ring)
    for place, offset in enumerate(_label_offsets(points)):
        if numbered is not None and place not in numbered:
            continue
        at = (points[place].x, points[place].y)
        axis.annotate(
            str(place + 1), at, offset, textcoords="offset points", color=INK, fontsize=9, ha="center", va="center"
        )
    axis.set_xscale("log")
    axis.margins(0.12)
    _plain_ticks(axis.xaxis)
    axis.set_xlabel(x_label, fontsize=9, color=INK, parse_math=False)
    axis.set_ylabel(y_label, fontsize=9, color=INK, parse_math=False)
    axis.tick_params(labelsize=8)
    _plain(axis, ("top", "right"))
    axis.grid(color=BASELINE, alpha=0.25, linewidth=0.5)
    if timed.any():
        from matplotlib.cm import ScalarMappable

        bar = figure.colorbar(ScalarMappable(spread, _speeds()), ax=axis, shrink=0.8, aspect=24)
        bar.set_label(colour_label, fontsize=9, color=INK)
        bar.ax.tick_params(labelsize=8, color=INK, labelcolor=INK)
        bar.ax.tick_params(which="minor", color=INK)
        _plain_ticks(bar.ax.yaxis)
        bar.outline.set_visible(False)
    return figure


def _speeds() -> Any:
    """Return a map from fast to slow whose colours are seen on white and on black alike."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("speeds", ["#2a9d8f", "#d9a321", "#d1495b"])


def _plain_ticks(axis: Any) -> None:
    """Write the numbers of a logarithmic axis as they are, where it spans few decades those between, too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    narrow = low > 0 and high / low < 300
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _label_offsets(points: Sequence[Point]) -> list[tuple[int, int]]:
    """Return where the number of each point stands, so that those of points close to each other can be told apart."""
    x = np.log([max(point.x, 1e-30) for point in points])
    y = np.array([point.y for point in points], float)
    x, y = ((part - part.min()) / (np.ptp(part) or 1.0) for part in (x, y))
    ways = [(11, 0), (-11, 0), (0, 11), (0, -11), (9, 9), (-9, -9), (9, -9), (-9, 9), (20, 0), (-20, 0)]
    size = np.array([250.0, 190.0])  # of the axes, in points
    dots = np.stack([x, y], axis=1) * size
    taken, found = list(dots), []
    for dot in dots:
        way = max(ways, key=lambda way: min(12.0, *(float(np.hypot(*(dot + way - one))) for one in taken)))
        found.append(way)
        taken.append(dot + way)
    return found


def roc(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], colours: Mapping[str, str], title: str) -> str:
    """Draw the ROC curves of several models over each other.

    Args:
        curves: {model: (false positive rates, true positive rates)}.
        colours: {model: colour}.
        title: for screen readers.

    Returns:
        An `<svg>` element.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.3, 2.2), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color=BASELINE, linewidth=0.8, linestyle=":")
    for place, (name, (false_rate, true_rate)) in enumerate(curves.items()):
        # Each is thinner than the one before, so that one below another is seen.
        width = max(0.8, 2.6 - 0.5 * place)
        axis.plot(false_rate, true_rate, color=colours[name], linewidth=width)
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    axis.tick_params(labelsize=8)
    axis.set_xlabel("false positive rate", fontsize=8, color=INK)
    axis.set_ylabel("true positive rate", fontsize=8, color=INK)
    _plain(axis, ("top", "right"))
    return to_svg(figure, title)


def differences(
    names: Sequence[str], values: Sequence[float], intervals: Sequence[tuple[float, float]], label: str
) -> str:
    """Draw differences as dots with their intervals beside a line at 0; grey where the interval holds 0.

    Args:
        names: one per row.
        values: the differences.
        intervals: (low, high) of each.
        label: of the horizontal axis.

    Returns:
        An `<svg>` element.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 0.26 * len(names) + 0.7), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color=INK, linewidth=0.7)
    for place, (value, (low, high)) in enumerate(zip(values, intervals, strict=True)):
        colour = BASELINE if low <= 0 <= high else GOOD if value > 0 else BAD
        axis.plot([low, high], [place] * 2, color=colour, linewidth=1.6)
        axis.plot([value], [place], "o", color=colour, markersize=5)
    axis.set_yticks(range(len(names)), [_short(name, 24) for name in names], fontsize=9, parse_math=False)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel(label, fontsize=9, color=INK)
    axis.tick_params(labelsize=8)
    axis.margins(x=0.08)
    axis.grid(axis="x", color=BASELINE, alpha=0.25, linewidth=0.5)
    _plain(axis, ("top", "right", "left"))
    axis.tick_params(axis="y", left=False)
    return to_svg(figure, label)


def heat_map(matrix: np.ndarray, names: Sequence[str], title: str) -> str:
    """Draw a confusion matrix that is too large for a table of numbers.

    Args:
        matrix: counts, (classes, classes), rows true.
        names: of the classes; of many they have no room.
        title: for screen readers.

    Returns:
        An `<svg>` element.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axis = figure.subplots()
    rates = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    axis.imshow(rates, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xlabel("predicted class", fontsize=9, color=INK)
    axis.set_ylabel("true class", fontsize=9, color=INK)
    axis.tick_params(colors=INK, labelsize=8)
    if len(names) <= NAMED:
        axis.set_yticks(range(len(names)), [_short(name, 20) for name in names], fontsize=6, parse_math=False)
    _plain(axis, ())
    return to_svg(figure, title)


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "\u2026"


def to_svg(figure: Figure, title: str) -> str:
    """Return a figure as an `<svg>` element without a background, scaled by the page."""
    import html

    from matplotlib import rc_context

    stream = io.StringIO()
    # Text stays text: it can be found and read aloud. Ids are hashes of what they name, salted by the title.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.family": ["sans-serif"]}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", svg)
    svg = svg.replace(INK, "currentColor")
    width = float(re.search(r'width="([\d.]+)pt"', svg).group(1)) * 4 / 3  # type: ignore[union-attr]
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    label = html.escape(title, quote=True)
    start = svg.index(">") + 1
    head = svg[:start].replace("<svg", f'<svg role="img" aria-label="{label}" style="max-width:{width:.0f}px"', 1)
    return f"{head}<title>{label}</title>{svg[start:]}"


def _plain(axis: Any, hidden: Sequence[str]) -> None:
    for side, spine in axis.spines.items():
        spine.set_visible(side not in hidden)
        spine.set_color(INK)
        spine.set_linewidth(0.6)
    axis.set_facecolor("none")
    axis.tick_params(color=INK, labelcolor=INK, length=3)
