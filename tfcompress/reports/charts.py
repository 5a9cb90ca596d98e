"""Charts as SVG that stands inside a page and takes the page's colour of text."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010203"
"""Drawn by matplotlib, then replaced by the page's own colour of text: right in light and in dark."""
BAR, BASELINE = "#2f81c7", "#8a94a3"


def bars(names: Sequence[str], values: Sequence[float | None], title: str, baseline: int) -> str:
    """Draw one figure of all candidates as horizontal bars.

    Args:
        names: one per candidate.
        values: one per candidate; None or NaN: no bar.
        title: above the chart.
        baseline: the place of the candidate that is drawn in grey.

    Returns:
        An `<svg>` element.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 0.36 * len(names) + 0.5), layout="constrained")
    axis = figure.subplots()
    lengths = np.array([np.nan if value is None else value for value in values], float)
    colours = [BASELINE if place == baseline else BAR for place in range(len(names))]
    axis.barh(range(len(names)), np.nan_to_num(lengths), color=colours, height=0.66)
    top = np.nan_to_num(lengths).max()
    axis.set_xlim(0, top * 1.22 if top > 0 else 1)
    for place, length in enumerate(lengths):
        text = "-" if np.isnan(length) else f"{length:,.4g}"
        at = (float(np.nan_to_num(length)), place)
        axis.annotate(text, at, (4, 0), textcoords="offset points", va="center", color=INK, fontsize=9)
    axis.set_title(title, fontsize=10, color=INK, loc="left", parse_math=False)
    labels = [name if len(name) <= 24 else name[:23] + "\u2026" for name in names]
    axis.set_yticks(range(len(names)), labels, fontsize=9, parse_math=False)
    axis.set_xticks([])
    axis.invert_yaxis()
    _plain(axis, ("top", "right", "bottom"))
    axis.tick_params(left=False)
    return to_svg(figure, f"Bar chart: {title}")


def roc(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> str:
    """Draw ROC curves.

    Args:
        curves: {class name: (false positive rates, true positive rates)}.
        title: for screen readers.

    Returns:
        An `<svg>` element.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.6, 3.4), layout="constrained")
    axis = figure.subplots()
    colours = colormaps["tab20" if len(curves) > 10 else "tab10"].colors  # type: ignore[attr-defined]
    axis.plot([0, 1], [0, 1], color=BASELINE, linewidth=0.8, linestyle=":")
    for place, (name, (false_rate, true_rate)) in enumerate(curves.items()):
        label = name if len(name) <= 14 else name[:13] + "\u2026"
        # A label that begins with "_" is matplotlib's sign for "no legend".
        axis.plot(false_rate, true_rate, color=colours[place % len(colours)], linewidth=1.3, label="\u200b" + label)
    axis.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axis.set_xlabel("false positive rate", fontsize=9, color=INK)
    axis.set_ylabel("true positive rate", fontsize=9, color=INK)
    axis.tick_params(colors=INK, labelsize=8)
    legend = axis.legend(loc="lower right", fontsize=7, frameon=False, labelcolor=INK, ncols=1 + (len(curves) > 6))
    for text in legend.get_texts():
        text.set_parse_math(False)
    _plain(axis, ("top", "right"))
    return to_svg(figure, title)


def heat_map(matrix: np.ndarray, title: str) -> str:
    """Draw a confusion matrix that is too large for a table of numbers.

    Args:
        matrix: counts, (classes, classes), rows true.
        title: for screen readers.

    Returns:
        An `<svg>` element.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axis = figure.subplots()
    rates = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    axis.imshow(rates, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axis.set_xlabel("predicted class", fontsize=9, color=INK)
    axis.set_ylabel("true class", fontsize=9, color=INK)
    axis.tick_params(colors=INK, labelsize=8)
    _plain(axis, ())
    return to_svg(figure, title)


def to_svg(figure: Figure, title: str) -> str:
    """Return a figure as an `<svg>` element without a background, scaled by the page."""
    import html

    from matplotlib import rc_context

    stream = io.StringIO()
    # Text stays text: it can be found and read aloud. Ids are hashes salted by the title.
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
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}" style="max-width:{width:.0f}px"', 1)


def _plain(axis: Any, hidden: Sequence[str]) -> None:
    for side, spine in axis.spines.items():
        spine.set_visible(side not in hidden)
        spine.set_color(INK)
        spine.set_linewidth(0.6)
    axis.set_facecolor("none")
    axis.tick_params(color=INK, labelcolor=INK, length=3)
