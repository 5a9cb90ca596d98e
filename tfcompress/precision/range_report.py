"""What a check of the range found, layer by layer."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfcompress.quantization.numerics.float16_range import LARGEST
from tfcompress.reports.json_document import Document
from tfcompress.reports.tables import plain, significant, to_text

NOTE = (
    "Activations are those of inference in float32; training, with dropout and other data, may go higher. "
    '"Overflows inside": what it returns fits, and still isn\'t finite in float16, as computed here.'
)


@dataclasses.dataclass(frozen=True)
class Float16Row:
    """One layer or operation.

    Attributes:
        layer: its name.
        kind: its class.
        precision: what it computes in under mixed_float16: "float16", or "float32" by the rule.
        largest_input: the largest |value| that it is given; 0 without float inputs.
        largest_output: the largest |value| that it returns; infinite if one isn't finite.
        largest_weight: the largest |value| of the weights that it casts.
        overflows: whether float16 can't hold one of these, or what is computed inside of it.
        inside: whether only the latter: what it is given and returns would fit, but in float16 it returns infinity or
            NaN.
        why: why it stays float32; empty if it doesn't.
    """

    layer: str
    kind: str
    precision: str
    largest_input: float
    largest_output: float
    largest_weight: float
    overflows: bool
    inside: bool = False
    why: str = ""

    @property
    def headroom(self) -> float:
        """65504 over the largest value: below 1 it overflows; infinite if all are 0."""
        largest = max(self.largest_input, self.largest_output, self.largest_weight)
        return LARGEST / largest if largest else float("inf")


@dataclasses.dataclass(frozen=True)
class Float16Report(Document):
    """What `tfc.check_float16` found; `print` shows the table.

    Attributes:
        name: the model's name.
        samples: how many samples it was measured on.
        rows: one for each layer and operation with floats, in the order of computation.
        unseen: why it didn't run in float16 here, so that "inside" isn't known; empty if it did.
    """

    name: str
    samples: int
    rows: tuple[Float16Row, ...]
    unseen: str = ""

    def __str__(self) -> str:
        return self.table()

    @property
    def overflows(self) -> list[str]:
        """The names of the layers that would overflow: what `tfc.mixed_precision` takes as `keep_float32`."""
        return [row.layer for row in self.rows if row.overflows]

    def table(self, width: int = 110) -> str:
        """Return one table, a row per layer, as text of at most `width` columns."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in ("layer", "class", "computes in"):
            table.add_column(heading, overflow="fold")
        for heading in ("input", "output", "weight", "headroom"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("")
        for row in self.rows:
            figures = (row.largest_input, row.largest_output, row.largest_weight)
            room = "-" if row.precision != "float16" else f"{row.headroom:.3g}x"
            said = "overflows inside" if row.inside else "overflows" if row.overflows else ""
            table.add_row(Text(row.layer), row.kind, row.precision, *map(significant, figures), room, said)
        found = ", ".join(self.overflows) or "none"
        caption = (
            f"{self.name}, {self.samples:,} samples: the largest |values|, beside float16's {LARGEST:.0f}. "
            f"Overflow: {found}."
        )
        notes = [NOTE, *([f"It didn't run in float16 here: {self.unseen}"] if self.unseen else [])]
        return to_text(table, caption, " ".join(notes), width=width)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON; what isn't finite becomes null."""
        return plain({"version": 1, **dataclasses.asdict(self), "overflows": self.overflows})
