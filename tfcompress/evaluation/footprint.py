"""What a `.tflite` file takes of a microcontroller's memory, and whether it fits."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tfcompress.core.memory_limits import Fitting, Needs, check_limits
from tfcompress.export.file_arithmetic import read_arithmetic
from tfcompress.runtime.arena import Arena
from tfcompress.runtime.opening import open_runner
from tfcompress.runtime.tflm_runner import TFLMRunner


@dataclasses.dataclass(frozen=True)
class Footprint(Fitting):
    """What a file takes of a microcontroller's memory.

    Attributes:
        path: of the file.
        flash: bytes of the file. The program with TensorFlow Lite Micro's own code comes beside it.
        arena: what it needs of RAM to be run; stack and the program's own data come beside it.
        operators: {kind: how many}: what the program has to register.
        ram_limit: bytes that it may take of RAM; None: not said.
        flash_limit: bytes that it may take of flash; None: not said.

    >>> Footprint(pathlib.Path("net.tflite"), 3_000, Arena(5_000, 4_000, 1_000), {}, 8_000, 2_000).verdict()
    '1,000 bytes of flash too large'
    """

    path: pathlib.Path
    flash: int
    arena: Arena
    operators: Mapping[str, int]
    ram_limit: int | None = None
    flash_limit: int | None = None

    @property
    def _needs(self) -> Needs:
        return {"RAM": (self.arena.total, self.ram_limit), "flash": (self.flash, self.flash_limit)}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, and whether it fits, ready for JSON."""
        limits = {"ram_limit": self.ram_limit, "flash_limit": self.flash_limit}
        found = {"path": str(self.path), "flash": self.flash, "arena": self.arena.to_dict()}
        return {**found, "operators": dict(self.operators), **limits, "too_much": self.too_much}

    def __str__(self) -> str:
        lines = [f"{self.path}: flash {self.flash:,} bytes, arena {self.arena}"]
        lines += [f"  {name}: {size:,} bytes" for name, size in self.arena.kinds.items()]
        lines.append(f"  operators: {', '.join(f'{count} {kind}' for kind, count in sorted(self.operators.items()))}")
        verdict = self.verdict()
        return "\n".join([*lines, *([f"  {verdict}"] if verdict else [])])


def footprint(path: str | os.PathLike[str], *, ram: int | None = None, flash: int | None = None) -> Footprint:
    """Measure what a file takes of a microcontroller's memory, with TFLite Micro itself.

    Args:
        path: of a `.tflite` file with fixed sizes, or an `Artifact`.
        ram: bytes of RAM that the arena may take; None: any.
        flash: bytes of flash that the file may take; None: any.

    Returns:
        A `Footprint`, with the arena to the byte.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: tflite-micro isn't installed.
        ValueError: TFLite Micro can't run the file, as it says why; or a limit is no number of bytes.

    Example:
        >>> import keras, tempfile, tfcompress as tfc
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(tfc.footprint(tfc.export(model, f"{folder}/net.tflite"), ram=8_000).verdict())
        fits
    """
    check_limits(ram, flash)
    runner = open_runner(path, runtime="tflm")
    assert isinstance(runner, TFLMRunner)
    return footprint_of(runner, ram, flash)


def footprint_of(runner: TFLMRunner, ram: int | None = None, flash: int | None = None) -> Footprint:
    """Return what an opened file takes (see `footprint`)."""
    file = runner.path
    return Footprint(file, file.stat().st_size, runner.arena(), read_arithmetic(file).kinds, ram, flash)
