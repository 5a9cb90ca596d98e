"""What an NPU's compiler says a file needs."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from tfcompress.core.names import listed


@dataclasses.dataclass(frozen=True)
class NPUOperator:
    """An operator of a file, and where it runs.

    Attributes:
        kind: as the compiler calls it, "Conv2D".
        name: its layer, where that is known; else what it makes, or its place in the file.
        on_npu: whether the NPU computes it; else the processor beside it does.
        cycles: of the NPU, as estimated; 0 where the processor computes it.
        reason: why the NPU doesn't.
    """

    kind: str
    name: str
    on_npu: bool
    cycles: int = 0
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class NPUEstimate:
    """What a file needs on an NPU: estimates of its compiler, not measurements.

    What the processor beside the NPU computes is in no time here.

    Attributes:
        path: of the file.
        accelerator: as "ethos-u55-128".
        system: clock and memories that are assumed, in the compiler's words.
        memory: what is assumed to lie where.
        compiler: the compiler and its version.
        milliseconds: of one inference.
        cycles: of one inference.
        clock_hz: of the NPU.
        flash: bytes of compressed weights and commands outside of the NPU: in flash, or in DRAM where the machine has
            that in its place.
        sram: bytes of what is computed.
        operators: of the file, in their order.
    """

    path: pathlib.Path
    accelerator: str
    system: str
    memory: str
    compiler: str
    milliseconds: float
    cycles: int
    clock_hz: float
    flash: int
    sram: int
    operators: tuple[NPUOperator, ...]

    @property
    def on_processor(self) -> tuple[NPUOperator, ...]:
        """The operators that the NPU doesn't compute."""
        return tuple(one for one in self.operators if not one.on_npu)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return {**dataclasses.asdict(self), "path": str(self.path)}

    def __str__(self) -> str:
        count = len(self.operators) - len(self.on_processor)
        beside = ", without what the processor computes" if self.on_processor else ""
        lines = [
            f"{self.path}: {self.accelerator}, estimated by {self.compiler} ({self.system}, {self.memory})",
            f"  {self.milliseconds:.3g} ms{beside}, {self.cycles:,} cycles at {self.clock_hz / 1e6:g} MHz; "
            f"flash {self.flash:,} bytes, SRAM {self.sram:,} bytes",
            f"  {count} operators on the NPU, {len(self.on_processor)} on the processor",
        ]
        for (kind, reason), names in _by_reason(self.on_processor).items():
            lines.append(f"    processor: {kind} ({listed(names, most=4)}): {reason}")
        return "\n".join(lines)


def _by_reason(operators: tuple[NPUOperator, ...]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for one in operators:
        found.setdefault((one.kind, one.reason or "no reason given"), []).append(one.name)
    return found
