"""Models side by side as a table of text."""

from __future__ import annotations

from typing import Any

from tfcompress.evaluation.comparison import Candidate, Comparison
from tfcompress.evaluation.device_tables import device_tables
from tfcompress.reports.tables import number, rough, significant, times, to_text

MANY_ZEROS = 0.3
"""Share of zeros among the numbers of a file of which a reader may think that they make it faster."""

RUNTIMES = {"keras": "Keras", "tflite": "LiteRT", "onnx": "ONNX Runtime"}
"""What runs a candidate of a format."""

MICRO = "TFLite Micro"

LEAST_FIRST = ("IQR", "parameters", "non-zero", "ms", "zip kB")
"""Columns that a narrow table goes without, in that order."""

NAMED = 3
"""Models that a note names."""

NAME = 24
"""Letters of a model's name that a table has room for; longer names take several lines."""

_SMALLER = {
    "tflite": "sparse=True) leaves them out of a .tflite",
    "onnx": 'weights="coded") stores them in fewer bits of a quantized .onnx',
}
"""{format of files: how zeros make one smaller}."""


class ComparisonTable(Comparison):
    """Several models side by side, as figures and as text."""

    def headings(self) -> list[str]:
        """Return the titles of the table's columns."""
        titles = ["model", "file kB", "zip kB", "parameters", "non-zero"]
        for output, (kind, _) in self.candidates[0].metrics.scores.items():
            titles += [f"{output} {kind}".strip(), "Δ points" if kind == "accuracy" else "Δ MSE"]
        if self.candidates[0].timing:
            titles += ["ms", "IQR", "speed-up"]
        titles += ["arena kB"] if any(candidate.footprint for candidate in self.candidates) else []
        return titles

    def rows(self) -> list[list[str]]:
        """Return the table's cells, a list per candidate."""
        table = []
        for candidate in self.candidates:
            size = candidate.size
            cells = [
                candidate.name,
                f"{size.file_bytes / 1000:,.1f}",
                f"{size.zipped_bytes / 1000:,.1f}",
                f"{size.parameters:,}",
                f"{100 * (1 - size.sparsity):.1f} %",
            ]
            differences, intervals = self.differences(candidate.name), self.intervals(candidate.name)
            for output, (kind, value) in candidate.metrics.scores.items():
                difference = differences.get(output)
                low, high = intervals.get(output, (0.0, 0.0))
                half = (high - low) / 2
                if kind == "accuracy":
                    within = f"\u00b1{half:.2f}" if output in intervals else ""
                    cells += [f"{100 * value:.2f} %", number(difference, 2, sign=True) + within]
                else:
                    within = f"\u00b1{half:.2g}" if output in intervals else ""
                    cells += [significant(value), (f"{difference:+.3g}" if difference is not None else "-") + within]
            if candidate.timing:
                speedup = self.speedup(candidate.name)
                cells += [
                    f"{candidate.timing.median_ms:.3g}",
                    rough(candidate.timing.iqr_ms),
                    times(speedup) if speedup else "-",
                ]
            if any(each.footprint for each in self.candidates):
                cells += [f"{candidate.footprint.arena.total / 1000:,.1f}" if candidate.footprint else "-"]
            table.append(cells)
        return table

    def table(self, width: int = 100) -> str:
        """Return one table, a row per model, as text of at most `width` columns."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        titles = self.headings()
        outputs = len(self.candidates[0].metrics.scores)
        # Two columns of figures per output: of many outputs each has a line of its own below.
        wide = outputs > 1
        keep = [i for i in range(len(titles)) if not wide or not 5 <= i < 5 + 2 * outputs]
        rows = self.rows()
        sizes = [max(len(titles[i]), *(len(cells[i]) for cells in rows)) for i in range(len(titles))]
        sizes[0] = min(sizes[0], NAME)
        left_out = []
        for title in LEAST_FIRST:
            if title in titles and sum(sizes[i] + 2 for i in keep) >= width:
                keep.remove(titles.index(title))
                left_out.append(title)
        main = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for i in keep:
            fold: dict[str, Any] = {"overflow": "fold"} if i == 0 else {"justify": "right", "no_wrap": True}
            main.add_column(titles[i], **fold)
        for cells in rows:
            main.add_row(*(Text(cells[i]) for i in keep))
        parts: list[Any] = [main]
        if wide:
            scores = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for title in ("model", "output", "metric", "value", "difference"):
                scores.add_column(title, justify="right" if title in ("value", "difference") else "left")
            for cells in rows:
                for place, (output, (kind, _)) in enumerate(self[cells[0]].metrics.scores.items()):
                    value, difference = cells[5 + 2 * place : 7 + 2 * place]
                    scores.add_row(*(Text(cell) for cell in (cells[0], output, kind, value, difference)))
            parts.append(scores)
        for shown in device_tables(self.candidates):
            device = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=shown.title, title_justify="left")
            for title in shown.headings:
                device.add_column(title, justify="left" if title in ("model", "fits") else "right")
            for row in shown.rows:
                device.add_row(*map(Text, row))
            parts += [device, *shown.notes]
        missing = f" Not shown in {width} columns: {', '.join(left_out)}." if left_out else ""
        parts += [self.caption() + missing, *self.notes()]
        return to_text(*parts, width=width)

    def caption(self) -> str:
        """Return the line below the table: the baseline, the samples, how latency was taken."""
        first = self.candidates[0]
        text = f"Baseline: {self.baseline}. {first.metrics.samples:,} samples. kB: 1,000 bytes. zip: deflate 9."
        if any(self.intervals(candidate.name) for candidate in self.candidates):
            text += " \u00b1: 95 % interval of the difference, on the same samples."
        if not all(candidate.is_file for candidate in self.candidates):
            text += " Models in memory: as a .keras file without the optimizer's state."
        if first.timing:
            threads = next((c.timing.threads for c in self.candidates if c.timing and c.timing.threads), None)
            on = f", {threads} thread{'s' if threads > 1 else ''}" if threads else ""
            keras = any(c.timing and c.timing.threads is None for c in self.candidates)
            text += f" ms: median at batch {first.timing.batch_size}{on}"
            text += " (Keras: the process's threads)." if keras else "."
        return text

    def notes(self) -> list[str]:
        """Return what a reader might take the figures for wrongly: that zeros make a model faster."""
        return [*self._fits(), *self._zeros()]

    def _fits(self) -> list[str]:
        notes = []
        for where, needs in (
            ("In TFLite Micro", {one.name: one.footprint for one in self.candidates if one.footprint}),
            ("On the NPU, by its compiler's estimates", {one.name: one.npu for one in self.candidates if one.npu}),
        ):
            said = "; ".join(f"{name}: {verdict}" for name, one in needs.items() if (verdict := one.verdict()))
            notes += [f"{where}: {said}."] if said else []
        if self.candidates[0].timing and any(_runtime(one) == MICRO for one in self.candidates):
            notes.append(
                "Times of TFLite Micro are those of its portable kernels on this machine: no microcontroller's."
            )
        return notes

    def _zeros(self) -> list[str]:
        full = [candidate for candidate in self.candidates if candidate.size.stored_zeros > MANY_ZEROS]
        if not full:
            return []
        names = ", ".join(candidate.name for candidate in full[:NAMED])
        names += f" and {len(full) - NAMED} more" if len(full) > NAMED else ""
        runtimes = ", ".join(sorted({_runtime(candidate) for candidate in full}))
        kinds = {candidate.format for candidate in full}
        hint = "".join(f"; tfc.export(..., {how} file" for kind, how in _SMALLER.items() if kind in kinds)
        return [
            f"Zeros alone don't make a model faster on {runtimes}: they are multiplied like any other "
            f'number, here in {names}. What they save is in the column "zip kB"{hint}.'
        ]

    def __str__(self) -> str:
        return self.table()

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {**super().to_dict(), "notes": self.notes()}


def _runtime(candidate: Candidate) -> str:
    return MICRO if candidate.runtime.startswith(MICRO) else RUNTIMES[candidate.format]
