"""What half precision did to a training: the loss scale, and each layer's largest activation and lost gradients."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfcompress.reports.json_document import Document
from tfcompress.reports.tables import plain, to_text

LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38}
"""The largest finite number of each dtype."""

MOST_ROWS = 20
"""In a table; all are in `rows` and in JSON."""


@dataclasses.dataclass(frozen=True)
class MonitorRow:
    """One layer in all batches that were looked at.

    Attributes:
        layer: Its name.
        policy: Name of its dtype policy.
        dtype: Of what it returns; empty if that wasn't seen.
        largest: Largest finite absolute value that it returned; `None`: not seen.
        nonfinite: Whether it returned infinite values or NaN.
        underflow: Share of its gradients that are 0 in half precision and not in float32, mean of the batches in
            which all of its gradients were finite; `None`: not known.
        overflow: Share of its gradients that are infinite or NaN, mean of the batches; `None`: it has none.
        skipped: Skipped steps, of those that were looked into, in which the overflow arose here.
        warned: Whether there was a warning about it.
    """

    layer: str
    policy: str
    dtype: str = ""
    largest: float | None = None
    nonfinite: bool = False
    underflow: float | None = None
    overflow: float | None = None
    skipped: int = 0
    warned: bool = False

    @property
    def of_range(self) -> float | None:
        """The largest activation as a share of the largest number of its dtype."""
        limit = LARGEST.get(self.dtype)
        return None if limit is None or self.largest is None else self.largest / limit

    @property
    def severity(self) -> float:
        """What rows are chosen by where there are too many for a table; 1 and more: something was lost."""
        lost = max(self.underflow or 0.0, self.overflow or 0.0, self.of_range or 0.0)
        return lost + self.nonfinite + self.warned + min(self.skipped, 1)


@dataclasses.dataclass(frozen=True)
class MonitorReport(Document):
    """What `tfc.callbacks.PrecisionMonitor` found; `print` shows the table.

    Attributes:
        model: The model's name.
        steps: Training steps that have run, the skipped ones among them.
        skipped: Steps that loss scaling left out, since a gradient wasn't finite.
        scale: What the loss is multiplied by at the end.
        lowest: The least that this was.
        highest: The most.
        dynamic: Whether the optimizer changes it (`keras.optimizers.LossScaleOptimizer`).
        batches: Batches that were looked at, without those of skipped steps.
        looked_into: Skipped steps that were looked into.
        gradients: Whether gradients were computed: they aren't for a model with a `train_step` of its own.
        diverged: Whether the loss of the last batch that was looked at wasn't finite in float32 either.
        rows: One `MonitorRow` for each layer, in the order in which they return.
    """

    model: str
    steps: int
    skipped: int
    scale: float
    lowest: float
    highest: float
    dynamic: bool
    batches: int
    looked_into: int
    gradients: bool
    diverged: bool
    rows: tuple[MonitorRow, ...]

    def __str__(self) -> str:
        return self.table()

    def __getitem__(self, layer: str) -> MonitorRow:
        """Return the row of a layer."""
        for row in self.rows:
            if row.layer == layer:
                return row
        raise KeyError(f"Expected one of {[row.layer for row in self.rows]}. Received: {layer!r}.")

    def title(self) -> str:
        """Return the line above the table."""
        if not self.dynamic:
            fixed = f"loss scale {self.scale:,.6g}, fixed" if self.scale != 1 else "no loss scaling"
            return f"{self.model}: {fixed}, {self.steps:,} steps"
        return (
            f"{self.model}: loss scale {self.scale:,.6g} ({self.lowest:,.6g} to {self.highest:,.6g}), "
            f"{self.skipped:,} of {self.steps:,} steps skipped"
        )

    def table(self, width: int = 120) -> str:
        """Return the table as text of at most `width` columns: of more than 20 layers the worst."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        worst = sorted(self.rows, key=lambda row: row.severity, reverse=True)[:MOST_ROWS]
        shown = [row for row in self.rows if any(row is other for other in worst)]
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("", no_wrap=True)
        table.add_column("layer", overflow="fold")
        table.add_column("policy", no_wrap=True)
        for heading in ("largest activation", "of its range", "underflow", "overflow", "skipped"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in shown:
            cells = (
                "!" if row.warned else "",
                row.layer,
                row.policy,
                "inf or NaN" if row.nonfinite else _size(row.largest),
                "over" if row.nonfinite else _percent(row.of_range),
                _percent(row.underflow),
                _percent(row.overflow),
                str(row.skipped) if row.skipped else "",
            )
            table.add_row(*map(Text, cells))
        return to_text(self.title(), table, self.caption(), width=width)

    def caption(self) -> str:
        """Return the lines below the table."""
        looked = f" and {self.looked_into:,} skipped" if self.looked_into else ""
        lines = [f"Seen in {self.batches:,} batches{looked}. Largest numbers: float16 65,504, bfloat16 3.4e38."]
        if self.gradients:
            lines.append("underflow: gradients that are 0 in half precision and not in float32; overflow: inf or NaN.")
        else:
            lines.append("No gradients: the model has a train_step of its own, and what it minimizes isn't known.")
        if self.scale == 1 and not self.dynamic and any(row.dtype == "float16" for row in self.rows):
            lines.append(
                "float16 without loss scaling: Keras adds it if the model's own policy is mixed_float16; else compile "
                "with a keras.optimizers.LossScaleOptimizer."
            )
        if self.looked_into:
            lines.append("skipped: how many of these skipped steps have their overflow from this layer.")
        if self.diverged:
            lines.append(
                "At the last step the loss wasn't finite in float32 either: the weights or the data hold inf or NaN."
            )
        hidden = len(self.rows) - MOST_ROWS
        if hidden > 0:
            lines.append(f"The {MOST_ROWS} worst of {len(self.rows)} layers; {hidden} are left out here.")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        document = dataclasses.asdict(self)
        rows = [{**dataclasses.asdict(row), "of_range": row.of_range} for row in self.rows]
        return plain({"version": 1, **document, "rows": rows})


def _size(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}" if value < 1e4 or value >= 1e7 else f"{value:,.0f}"


def _percent(share: float | None) -> str:
    """Return a share in percent; what is not quite 0 doesn't look like it."""
    if share is None:
        return "-"
    return "< 0.1 %" if 0 < share < 0.0005 else f"{share:.1%}".replace("%", " %")
