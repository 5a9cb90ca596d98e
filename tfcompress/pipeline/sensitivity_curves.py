"""What a sensitivity scan finds: a metric for each layer and level."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tfcompress.core.atomic_files import check_target
from tfcompress.reports.json_document import Document
from tfcompress.reports.tables import number, plain, significant, to_text

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
class Sensitivity(Document):
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

    def __str__(self) -> str:
        return self.table()

    def table(self, width: int = 100) -> str:
        """Return one table, a row per layer, as text of at most `width` columns."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        values = {(row.layer, row.level): row.value for row in self.rows}
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("layer", overflow="fold")
        table.add_column("weights", justify="right", no_wrap=True)
        for level in self.levels:
            table.add_column(self.label(level), justify="right", no_wrap=True)
        for layer, size in self.sizes.items():
            cells = (self.text(values.get((layer, level))) for level in self.levels)
            table.add_row(Text(layer), f"{size:,}", *cells)
        what = "pruned" if self.kind == "sparsity" else "quantized"
        caption = (
            f"{self.metric} with one layer {what}, {self.samples:,} samples. Baseline: {self.text(self.baseline)}."
        )
        return to_text(table, caption, width=width)

    def label(self, level: float) -> str:
        """Return how a level is called, such as "50 % zeros"."""
        return f"{100 * level:.4g} % zeros" if self.kind == "sparsity" else f"{level:.0f} bits"

    def text(self, value: float | None) -> str:
        """Return a value of the metric as text: a percentage for accuracy."""
        if value is None or self.metric != "accuracy":
            return significant(value)
        return f"{number(100 * value, 2)} %"

    def plot(self, path: str | os.PathLike[str] | None = None, *, overwrite: bool = False) -> Any:
        """Draw the metric against the level, a line per layer.

        Args:
            path: ends in `.png`; None: nothing is written.
            overwrite: whether an existing file may be replaced.

        Returns:
            The path, or without one matplotlib's `Figure`.

        Raises:
            FileExistsError: the file exists, and `overwrite` is False.
            FileNotFoundError: the folder doesn't exist.
            ValueError: another suffix.
        """
        from tfcompress.pipeline.scan_plots import draw_sensitivity, save

        target = None if path is None else check_target(path, ".png", overwrite)
        figure = draw_sensitivity(self)
        return figure if target is None else save(figure, target)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return plain({"version": 1, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Sensitivity:
        """Return what `to_json` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it can't be read.
            ValueError: the file holds something else.
        """
        try:
            fields = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
            version = fields.pop("version")
            rows = [SensitivityRow(**{**row, "value": _number(row["value"])}) for row in fields.pop("rows")]
            lists = {"levels": tuple(fields.pop("levels")), "rows": tuple(rows)}
            found = cls(**{**fields, **lists, "baseline": _number(fields["baseline"])})
            if version != 1 or found.kind not in UNITS:
                raise ValueError(f"version {version}, kind {found.kind!r}")
        except OSError as error:
            raise type(error)(f"Expected a file that can be read. Received: {path} ({error.strerror}).") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"Expected a file that Sensitivity.to_json wrote. Received: {path} ({type(error).__name__}: {error}). "
                "Name another file, or delete it to begin anew."
            ) from error
        return found


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
