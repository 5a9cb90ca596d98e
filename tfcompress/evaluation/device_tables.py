"""What files take of small devices, as tables: in TFLite Micro, and on NPUs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfcompress.evaluation.comparison import Candidate


@dataclasses.dataclass(frozen=True)
class DeviceTable:
    """What files take of one device.

    Attributes:
        title: which device, and where the figures are from.
        headings: of the columns.
        rows: the cells, a list per file.
        notes: what is to be said below.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def device_tables(candidates: Sequence[Candidate]) -> list[DeviceTable]:
    """Return a table of the files that TFLite Micro ran, and one of those for each NPU, where there are any."""
    found = [_micro([one for one in candidates if one.footprint])]
    kinds = dict.fromkeys((one.npu.accelerator, one.npu.compiler) for one in candidates if one.npu)
    for accelerator, compiler in kinds:
        those = [one for one in candidates if one.npu and one.npu.accelerator == accelerator]
        found.append(_npu(those, accelerator, compiler))
    return [table for table in found if table.rows]


def _micro(candidates: Sequence[Candidate]) -> DeviceTable:
    rows, verdicts = [], []
    for one in candidates:
        assert one.footprint is not None
        arena = one.footprint.arena
        figures = (one.footprint.flash, arena.total, arena.activations, arena.persistent)
        rows.append((one.name, *(f"{each:,}" for each in figures)))
        verdicts.append(one.footprint.verdict())
    headings = ("model", "flash bytes", "arena bytes", "activations", "that stay")
    return DeviceTable("In TFLite Micro, to the byte", *_judged(headings, rows, verdicts))


def _npu(candidates: Sequence[Candidate], accelerator: str, compiler: str) -> DeviceTable:
    rows, verdicts, notes = [], [], []
    for one in candidates:
        assert one.npu is not None
        npu = one.npu
        counts = (f"{len(npu.on_npu)}", f"{len(npu.on_processor)}")
        figures = (f"{npu.flash:,}", f"{npu.sram:,}", f"{npu.cycles:,}", f"{npu.milliseconds:.4g}")
        rows.append((one.name, *counts, *figures))
        verdicts.append(npu.verdict())
        notes += [f"{one.name}, on the processor, in no time here: {line}." for line in npu.reasons()]
    headings = ("model", "on NPU", "on processor", "flash bytes", "SRAM bytes", "cycles", "ms")
    title = f"On {accelerator}, estimated by {compiler}; nothing is measured"
    return DeviceTable(title, *_judged(headings, rows, verdicts), tuple(notes))


def _judged(
    headings: tuple[str, ...], rows: Sequence[tuple[str, ...]], verdicts: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return headings and rows with a column that says what fits, where limits were given."""
    if not any(verdicts):
        return headings, tuple(rows)
    return (*headings, "fits"), tuple(
        (*row, "yes" if said == "fits" else said) for row, said in zip(rows, verdicts, strict=True)
    )
