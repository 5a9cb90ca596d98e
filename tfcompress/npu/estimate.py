"""What an NPU's compiler says a file needs."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from tfcompress.core.memory_limits import Fitting, Needs
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
class NPUEstimate(Fitting):
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
        ram_limit: bytes that it may take of SRAM; None: not said.
        flash_limit: bytes that it may take of flash; None: not said.
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
    ram_limit: int | None = None
    flash_limit: int | None = None

    @property
    def _needs(self) -> Needs:
        return {"SRAM": (self.sram, self.ram_limit), "flash": (self.flash, self.flash_limit)}

    @property
    def on_npu(self) -> tuple[NPUOperator, ...]:
        """The operators that the NPU computes."""
        return tuple(one for one in self.operators if one.on_npu)

    @property
    def on_processor(self) -> tuple[NPUOperator, ...]:
        """The operators that the NPU doesn't compute."""
        return tuple(one for one in self.operators if not one.on_npu)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return {**dataclasses.asdict(self), "path": str(self.path), "too_much": self.too_much}

    def reasons(self) -> list[str]:
        """Return what the NPU leaves to the processor, and why, a line for each kind of operator and reason."""
        found: dict[tuple[str, str], list[str]] = {}
        for one in self.on_processor:
            found.setdefault((one.kind, one.reason or "no reason given"), []).append(one.name)
        return [f"{kind} ({listed(names, most=4)}): {reason}" for (kind, reason), names in found.items()]

    def __str__(self) -> str:
        beside = ", without what the processor computes" if self.on_processor else ""
        lines = [
            f"{self.path}: {self.accelerator}, estimated by {self.compiler} ({self.system}, {self.memory})",
            f"  {self.milliseconds:.3g} ms{beside}, {self.cycles:,} cycles at {self.clock_hz / 1e6:g} MHz; "
            f"flash {self.flash:,} bytes, SRAM {self.sram:,} bytes",
            f"  {len(self.on_npu)} operators on the NPU, {len(self.on_processor)} on the processor",
            *(f"    processor: {line}" for line in self.reasons()),
            *([f"  {self.verdict()}"] if self.verdict() else []),
        ]
        return "\n".join(lines)
