"""What the pictures of scans have in common: lines over sparsity or bits."""

from __future__ import annotations

import io
import pathlib
from typing import TYPE_CHECKING, Any

from tfcompress.core.atomic_files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: Figure, target: pathlib.Path) -> pathlib.Path:
    """Write a picture as PNG beside its final name, and move it into place."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    return write_bytes(target, stream.getvalue())


def canvas() -> tuple[Figure, Any]:
    """Return an empty picture and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def finish(axis: Any) -> None:
    """Add the grid and, beside the axes, the legend."""
    axis.grid(linewidth=0.4)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    legend = axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
