"""Layer by layer: ranges, histograms, zeros, bits and signal-to-noise of weights and activations."""

from __future__ import annotations

from collections.abc import Sequence

from tfcompress.evaluation.layer_changes import LayerChanges, Spread, TensorChange
from tfcompress.reports.content import Block, Cell, Section, Table, Text
from tfcompress.reports.histograms import picture
from tfcompress.reports.tables import number


def layer_sections(changes: Sequence[LayerChanges]) -> list[Section]:
    """Return a section for each model that was compared layer by layer."""
    return [Section(f"Layers of {one.model}", _blocks(one), folded=True) for one in changes]


def _blocks(one: LayerChanges) -> list[Block]:
    how = (
        f"Compared with {one.reference}: grey areas before, lines after; heights are square roots, zeros are left out. "
        "Upright marks: the ends of the quantized grid. SQNR: signal-to-noise, the variance of the tensor over the "
        "mean squared change."
    )
    blocks: list[Block] = [Text(how), _table("Weights", one.weights)]
    if one.problem:
        blocks.append(Text(f"Activations could not be compared: {one.problem}"))
    else:
        blocks.append(_table(f"Activations of {one.samples} samples", one.activations))
    return blocks


def _table(caption: str, changes: Sequence[TensorChange]) -> Table:
    headings = ["layer", "values", "SQNR dB", "bits", "zeros before", "after", "range before", "after", "grid"]
    return Table(headings, [_row(change) for change in changes], caption=caption)


def _row(change: TensorChange) -> list[Cell]:
    name = change.layer if change.tensor in ("kernel", "output") else f"{change.layer} {change.tensor}"
    sqnr = "-" if change.before is None else "exact" if change.sqnr is None else number(change.sqnr, 1)
    step = "" if change.grid is None else f", scale {(change.grid[1] - change.grid[0]) / (2**change.bits - 1):.3g}"
    grid = "-" if change.grid is None else f"{change.grid[0]:.3g} to {change.grid[1]:.3g}{step}"
    svg = ""
    if change.histogram is not None:
        svg = picture(change.histogram, f"Values of {name}, before and after", change.grid, 2**change.bits - 1)
    before = [_zeros(change.before), _range(change.before)]
    after = [_zeros(change.after), _range(change.after)]
    named = [Cell(name), Cell("", svg=svg), Cell(sqnr), Cell(str(change.bits))]
    return [*named, before[0], after[0], before[1], after[1], Cell(grid)]


def _zeros(spread: Spread | None) -> Cell:
    return Cell("-" if spread is None else f"{100 * spread.zeros:.1f} %")


def _range(spread: Spread | None) -> Cell:
    return Cell("-" if spread is None else f"{spread.low:.3g} to {spread.high:.3g}")
