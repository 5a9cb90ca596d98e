"""The picture of a `DebugReport`: SQNR from layer to layer."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from tfcompress.parity.tensor_difference import TensorDifference

CEILING = 100.0
"""dB at which the axis ends: what is better, or exact, is drawn there."""

ALL, OWN, WRONG = "#2f81c7", "#8a94a3", "#d1242f"


def draw(tensors: Sequence[TensorDifference], title: str, target: pathlib.Path) -> None:
    """Draw the SQNR of each tensor as a bar, that of each layer alone as a dot; write the picture to `target`.

    Args:
        tensors: what to draw; with a hundred the picture grows, the names stay readable.
        title: of the picture.
        target: a `.png` file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(tensors)
    figure = Figure(figsize=(9.0, 0.19 * count + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    places = np.arange(count)
    whole = [_height(tensor.sqnr) if tensor.tensor else np.nan for tensor in tensors]
    own = [_height(tensor.own_sqnr) if tensor.tensor else np.nan for tensor in tensors]
    colours = [WRONG if tensor.differs else ALL for tensor in tensors]
    axis.barh(places, np.nan_to_num(whole), color=colours, height=0.7, label="with all before it")
    axis.plot(own, places, "o", color=OWN, markersize=4, label="the layer alone")
    if any(tensor.float_sqnr is not None for tensor in tensors):
        lost = [np.nan if tensor.float_sqnr is None else _height(tensor.float_sqnr) for tensor in tensors]
        axis.plot(lost, places, "|", color="black", markersize=7, label="Keras: quantized against float")
    for place, tensor in enumerate(tensors):
        if tensor.tensor is None:
            axis.annotate("not in the file", (0, place), (4, 0), textcoords="offset points", va="center", fontsize=7)
    names = [tensor.name if len(tensor.name) <= 40 else tensor.name[:39] + "\u2026" for tensor in tensors]
    axis.set_yticks(places, names, fontsize=7, parse_math=False)
    axis.set_ylim(count - 0.4, -0.6)
    axis.set_xlim(0, CEILING * 1.02)
    axis.set_xlabel(f"SQNR in dB ({CEILING:.0f}: that or better)")
    axis.set_title(title, fontsize=10, parse_math=False)
    axis.grid(axis="x", linewidth=0.4)
    axis.set_axisbelow(True)
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0 + 0.4 / (0.19 * count + 1)), ncols=3, fontsize=8)
    figure.savefig(target, dpi=130)


def _height(sqnr: float | None) -> float:
    return CEILING if sqnr is None else float(np.clip(sqnr, 0.0, CEILING))
