"""What a sensitivity scan finds: a metric for each layer and level."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfcompress.pipeline.scan import Scan
from tfcompress.pipeline.scan_plots import canvas, finish
from tfcompress.reports.tables import number, plain, significant

SHOWN = 10
"""Lines with a colour and a name of their own; what is less sensitive is drawn in grey."""

GREY, BASELINE = "#c4c9d1", "#57606a"
MARKERS = "osD^vPX*<>"

UNITS = {"sparsity": "zeros", "bits": "bits"}


@dataclasses.dataclass(frozen=True)
class SensitivityRow:
    """One point of a scan.

    Attributes:
        layer: the layer's name.
        level: its sparsity, or its bits; all other layers are as they were.
        value: the metric.
    """

    layer: str
    level: float
    value: float


@dataclasses.dataclass(frozen=True)
class Sensitivity(Scan):
    """What `tfc.sensitivity` found.

    Attributes:
        kind: what was varied: "sparsity" or "bits".
        metric: its name.
        higher_is_better: whether more of the metric is better.
        baseline: the metric of the model as it was given.
        samples: how many samples it was measured on.
        sizes: {layer: number of kernel weights}, in the order of the model; all layers that are scanned.
        levels: all levels, ascending.
        rows: one `SensitivityRow` per layer and level that is done, layer by layer.
        fingerprint: of the model's weights.
    """

    kind: str
    metric: str
    higher_is_better: bool
    baseline: float
    samples: int
    sizes: Mapping[str, int]
    levels: tuple[float, ...]
    rows: tuple[SensitivityRow, ...]
    fingerprint: str = ""

    def losses(self) -> dict[str, dict[float, float]]:
        """Return how much worse than the baseline each point is: {layer: {level: loss}}; negative: it is better."""
        sign = 1.0 if self.higher_is_better else -1.0
        found: dict[str, dict[float, float]] = {}
        for row in self.rows:
            found.setdefault(row.layer, {})[row.level] = sign * (self.baseline - row.value)
        return found

    def ranking(self) -> list[str]:
        """Return the layers, the most sensitive first: by the mean loss of all levels."""
        means = {layer: sum(losses.values()) / len(losses) for layer, losses in self.losses().items()}
        return sorted(means, key=lambda layer: -means[layer])

    @property
    def verdict(self) -> str:
        """Which layers lose most and least, in one sentence."""
        losses, ranking = self.losses(), self.ranking()
        if not ranking:
            return ""
        hardest = self.levels[-1] if self.kind == "sparsity" else self.levels[0]
        values = {(row.layer, row.level): row.value for row in self.rows}
        said = []
        for what, layer in (("most", ranking[0]), ("least", ranking[-1]))[: len(losses)]:
            level = hardest if (layer, hardest) in values else max(losses[layer], key=lambda one: losses[layer][one])
            said.append(f"{what} sensitive is {layer} ({self.text(values[layer, level])} with {self.label(level)})")
        text = f"{', '.join(said)}; {self.metric} was {self.text(self.baseline)}."
        return text[0].upper() + text[1:]

    def headings(self) -> list[str]:
        """Return the titles of the table's columns."""
        return ["layer", "weights", *map(self.label, self.levels)]

    def cells(self) -> list[list[str]]:
        """Return the table's cells, a list per layer."""
        values = {(row.layer, row.level): row.value for row in self.rows}
        return [
            [layer, f"{size:,}", *(self.text(values.get((layer, level))) for level in self.levels)]
            for layer, size in self.sizes.items()
        ]

    def caption(self) -> str:
        """Return the line below the table: what was done, and what the metric was."""
        what = "pruned" if self.kind == "sparsity" else "quantized"
        return f"{self.metric} with one layer {what}, {self.samples:,} samples. Baseline: {self.text(self.baseline)}."

    def label(self, level: float) -> str:
        """Return how a level is called, such as "50 % zeros"."""
        return f"{100 * level:.4g} % zeros" if self.kind == "sparsity" else f"{level:.0f} bits"

    def text(self, value: float | None) -> str:
        """Return a value of the metric as text: a percentage for accuracy."""
        if value is None or self.metric != "accuracy":
            return significant(value)
        return f"{number(100 * value, 2)} %"

    def draw(self) -> Any:
        """Return the picture."""
        return _draw(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return plain({"version": 1, **dataclasses.asdict(self)})

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> Sensitivity:
        """Return what `to_dict` gave the fields of."""
        rows = [SensitivityRow(**{**row, "value": _number(row["value"])}) for row in fields.pop("rows")]
        lists = {"levels": tuple(fields.pop("levels")), "rows": tuple(rows)}
        found = cls(**{**fields, **lists, "baseline": _number(fields["baseline"])})
        if found.kind not in UNITS:
            raise ValueError(f"kind {found.kind!r}")
        return found


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _draw(result: Sensitivity) -> Any:
    """Return a picture of a scan, a line per layer: the metric against the sparsity or the bits.

    Args:
        result: What to draw; of more than ten layers the ten most sensitive have colours and names.
    """
    figure, axis = canvas()
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
    finish(axis)
    return figure
