"""Layer by layer: ranges, histograms, zeros, bits, grids and signal-to-noise of weights and activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tfcompress.evaluation.layer_changes import LayerChanges, Spread, TensorChange
from tfcompress.reports.content import Block, Cell, Key, Section, Table, Text
from tfcompress.reports.histograms import picture
from tfcompress.reports.tables import number

HOW = (
    "Heights are square roots, zeros are left out. High marks: the ends of the quantized grid, of the channel with the "
    "largest scale; low ones: the ends of that with the smallest, or each number of a grid of few. SQNR: "
    "signal-to-noise, the variance of the tensor over the mean squared change."
)


MOST = 100.0
"""dB that are told: above is what float32 rounds."""


def layer_sections(changes: Sequence[LayerChanges]) -> list[Section]:
    """Return a section with a part for each model or file that was looked into."""
    if not changes:
        return []
    key = Key([("before", "var(--before)"), ("after", "var(--after)"), ("quantized grid", "var(--grid)")])
    parts = [Section(f"Layers of {one.model}", list(_blocks(one)), folded=True) for one in changes]
    return [Section("Layer by layer", [key, Text(HOW), *parts], folded=True)]


def _blocks(one: LayerChanges) -> list[Block]:
    blocks: list[Block] = [Text(f"Before: {one.reference}. After: {one.model}.")] if one.reference else []
    blocks.append(_table("Weights", one.weights, one.reference is not None))
    if one.problem:
        blocks.append(Text(f"Activations were not compared: {one.problem}"))
    else:
        note = f". {one.note}" if one.note else ""
        blocks.append(_table(f"Activations of {one.samples} samples{note}", one.activations, True))
    return blocks


def _table(caption: str, changes: Sequence[TensorChange], compared: bool) -> Table:
    in_file = any(change.dtype for change in changes)
    columns = {
        "layer": [_name(change) for change in changes],
        "values": [_histogram(change) for change in changes],
        "SQNR dB": [Cell(_sqnr(change)) for change in changes] if compared else [],
        "stored as" if in_file else "bits": [Cell(change.dtype or str(change.bits)) for change in changes],
        "zeros": [_both(change, _zeros) for change in changes],
        "range": [_both(change, _range) for change in changes],
        "grid": [Cell(_grid(change)) for change in changes] if any(change.grid for change in changes) else [],
        "bytes": [Cell(f"{change.nbytes or 0:,}") for change in changes] if _has_bytes(changes) else [],
    }
    kept = {heading: cells for heading, cells in columns.items() if cells}
    return Table(list(kept), list(zip(*kept.values(), strict=True)), caption=caption)


def _has_bytes(changes: Sequence[TensorChange]) -> bool:
    return any(change.nbytes is not None for change in changes)


def _name(change: TensorChange) -> Cell:
    return Cell(change.layer if change.tensor in ("kernel", "output") else f"{change.layer} {change.tensor}")


def _histogram(change: TensorChange) -> Cell:
    if change.histogram is None:
        return Cell("")
    grid = change.grid
    title = f"Values of {_name(change).text}{', before and after' if change.before else ''}"
    ends, marks = ((grid.low, grid.high), grid.marks) if grid else (None, ())
    return Cell("", svg=picture(change.histogram, title, ends, marks))


def _sqnr(change: TensorChange) -> str:
    if change.before is None:
        return "-"
    return "exact" if change.sqnr is None else f"> {MOST:.0f}" if change.sqnr > MOST else number(change.sqnr, 1)


def _grid(change: TensorChange) -> str:
    if change.grid is None:
        return "-"
    return f"{change.grid.low:.3g} to {change.grid.high:.3g}\n" + str(change.grid).replace(" (", "\n(")


def _both(change: TensorChange, said: Callable[[Spread], str]) -> Cell:
    """Return a figure before and after; after alone where it isn't known before."""
    after = said(change.after)
    return Cell(after if change.before is None else f"{said(change.before)}\n\u2192 {after}")


def _zeros(spread: Spread) -> str:
    return f"{100 * spread.zeros:.1f} %"


def _range(spread: Spread) -> str:
    return f"{spread.low:.3g} to {spread.high:.3g}"
