"""Pictures of what scans find: lines over sparsity or bits."""

from __future__ import annotations

import io
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcompress.core.atomic_files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tfcompress.pipeline.sensitivity_curves import Sensitivity
    from tfcompress.pipeline.sweep import Sweep

SHOWN = 10
"""Lines with a colour and a name of their own; what is less sensitive is drawn in grey."""

GREY, BASELINE = "#c4c9d1", "#57606a"
MARKERS = "osD^vPX*<>"


def draw_sensitivity(result: Sensitivity) -> Figure:
    """Return a picture of a scan, a line per layer: the metric against the sparsity or the bits.

    Args:
        result: What to draw; of more than ten layers the ten most sensitive have colours and names.
    """
    figure, axis = _canvas()
    per_cent = result.metric == "accuracy"
    factor = 100.0 if per_cent else 1.0
    ranking = result.ranking()
    shown = [layer for layer in result.sizes if layer in ranking[:SHOWN]]  # in the order of the model
    others = [layer for layer in ranking if layer not in shown]
    sparsity = result.kind == "sparsity"
    axis.axhline(factor * result.baseline, color=BASELINE, linewidth=1.0, linestyle="--", label="as given")
    for layer in (*others, *shown):
        points = sorted((row.level, row.value) for row in result.rows if row.layer == layer)
        x, y = (np.array(part, float) for part in zip(*points, strict=True))
        if sparsity:
            x, y = np.r_[0.0, 100 * x], np.r_[result.baseline, y]
        if layer in others:
            label = f"{len(others)} less sensitive" if layer == others[0] else "_"
            axis.plot(x, factor * y, color=GREY, linewidth=0.9, label=label, zorder=1)
            continue
        place = shown.index(layer)
        name = layer if len(layer) <= 32 else layer[:15] + "\u2026" + layer[-16:]
        style: dict[str, Any] = {"color": f"C{place}", "marker": MARKERS[place], "markersize": 4, "linewidth": 1.4}
        # A label that begins with "_" is matplotlib's sign for "no legend".
        axis.plot(x, factor * y, label="\u200b" + name, **style)
    axis.set_xlabel("zeros in the layer, %" if sparsity else "bits of the layer's weights")
    if not sparsity:
        axis.set_xticks(result.levels)
    axis.set_ylabel(f"{result.metric}, %" if per_cent else result.metric, parse_math=False)
    axis.set_title(f"One layer {'pruned' if sparsity else 'quantized'}, the others as they were", fontsize=10)
    _finish(axis)
    return figure


def draw_sweep(result: Sweep) -> Figure:
    """Return a picture of a sweep: the metric on training and on test data against the sparsity."""
    figure, axis = _canvas()
    factor = 100.0 if result.metric == "accuracy" else 1.0
    given, *trained = result.rows
    zeros = [100 * row.sparsity for row in trained]
    for name, colour, marker in (("train", "C0", "o"), ("test", "C1", "s")):
        value = factor * getattr(given, name)
        axis.axhline(value, color=colour, linewidth=0.8, linestyle="--", label=f"{name}, as given")
        values = [factor * getattr(row, name) for row in trained]
        axis.plot(zeros, values, color=colour, marker=marker, markersize=5, label=f"{name}, pruned and fine-tuned")
    axis.set_xlabel("zeros in all kernels, %")
    axis.set_ylabel(f"{result.metric}, %" if factor == 100 else result.metric)
    axis.set_title(f"{result.model} on {result.data}", fontsize=10, parse_math=False)
    _finish(axis)
    return figure


def save(figure: Figure, target: pathlib.Path) -> pathlib.Path:
    """Write a picture as PNG beside its final name, and move it into place."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    return write_bytes(target, stream.getvalue())


def _canvas() -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _finish(axis: Any) -> None:
    axis.grid(linewidth=0.4)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    legend = axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
