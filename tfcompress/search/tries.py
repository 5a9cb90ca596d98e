"""What a search tried, and what it found."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import zlib
from collections.abc import Mapping
from typing import Any

from tfcompress.core.atomic_files import draft
from tfcompress.evaluation.footprint import footprint
from tfcompress.evaluation.timing import benchmark
from tfcompress.export.writing import old_data
from tfcompress.npu.vela import estimate_npu
from tfcompress.runtime.external_data import whole
from tfcompress.runtime.runner import format_of
from tfcompress.search.judgement import Judgement
from tfcompress.targets import Target

MICRO = "tflm"
"""The runtime of microcontrollers."""


@dataclasses.dataclass(frozen=True)
class FileInRuntime:
    """The path of a file that is run in a runtime which isn't that of its format.

    Attributes:
        path: of the file.
        runtime: as `tfc.evaluate` names it.
    """

    path: pathlib.Path
    runtime: str

    def __fspath__(self) -> str:
        """Let it stand where the path of a file can."""
        return str(self.path)


@dataclasses.dataclass(frozen=True)
class TriedFile:
    """One file of a try.

    Attributes:
        format: "tflite" or "onnx"; the file's name where a recipe exports several of one format.
        path: of the file.
        nbytes: its size in bytes.
        zipped: its size, deflated.
        ms: the median latency of one inference; `None`: not measured.
        selection: how it was judged on the data that the search chooses by; `None`: it wasn't.
        proof: how it was judged on the data that nothing was chosen by; `None`: it wasn't.
        runtime: in which it is run; `None`: that of its format.
        flash: of a file for an NPU: the bytes that Vela estimates it takes of flash; `None`: those of the file.
        arena: of a file for a microcontroller: bytes of RAM that it needs to be run, for an NPU by Vela's estimates.
    """

    format: str
    path: pathlib.Path
    nbytes: int
    zipped: int | None = None
    ms: float | None = None
    selection: Judgement | None = None
    proof: Judgement | None = None
    runtime: str | None = None
    flash: int | None = None
    arena: int | None = None

    @property
    def source(self) -> pathlib.Path | FileInRuntime:
        """What `tfc.evaluate` takes to run it."""
        return self.path if self.runtime is None else FileInRuntime(self.path, self.runtime)

    @classmethod
    def measured(
        cls,
        format: str,
        path: pathlib.Path,
        selection: Judgement | None,
        inputs: Any = None,
        target: Target | None = None,
        *,
        estimated: bool = True,
    ) -> TriedFile:
        """Return a file with its bytes, plain and deflated, those of files that hold its weights among them.

        Args:
            format: as the attribute.
            path: of the file.
            selection: as the attribute.
            inputs: to take the latency with; `None`: it isn't measured. Vela estimates that of an NPU; that of a
                microcontroller isn't known here.
            target: what the file is for; `None`: not said.
            estimated: whether Vela is asked what a file for an NPU needs.
        """
        contents = [one.read_bytes() for one in whole(path)]
        zipped = sum(len(zlib.compress(content, 9)) for content in contents)
        known = cls(format, path, sum(map(len, contents)), zipped, None, selection, runtime=runtime_of(path, target))
        if target is not None and target.accelerator is not None:
            if not estimated:
                return known
            found = estimate_npu(path, target.accelerator)
            return dataclasses.replace(known, ms=found.milliseconds, flash=found.flash, arena=found.sram)
        if known.runtime == MICRO:
            return dataclasses.replace(known, arena=footprint(path).arena.total)
        ms = None if inputs is None else benchmark(known.source, inputs, seconds=0.5).median_ms
        return dataclasses.replace(known, ms=ms)

    def copied(self, target: pathlib.Path) -> pathlib.Path:
        """Copy the file to a path of the same name in another folder, with those that hold its weights.

        What is there is replaced as a whole, also where it has its weights in a file of their own.
        """
        with draft(target, old_data(target)) as beside:
            for one in whole(self.path):
                shutil.copyfile(one, beside.parent / one.name)
        return target

    def cost(self, minimize: str) -> float:
        """Return what is minimized: "latency" in milliseconds, others in bytes; infinite if unknown.

        Args:
            minimize: "size", "zip", "latency" or "arena"; the size of a file for an NPU is the flash that it takes.
        """
        size = self.nbytes if self.flash is None else self.flash
        value = {"size": size, "zip": self.zipped, "latency": self.ms, "arena": self.arena}[minimize]
        return float("inf") if value is None else float(value)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        judged = {name: one and one.to_dict() for name, one in (("selection", self.selection), ("proof", self.proof))}
        return {**dataclasses.asdict(self), "path": str(self.path), **judged}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TriedFile:
        """Return the file that `to_dict` was called on."""
        judged = {name: values[name] and Judgement.from_dict(values[name]) for name in ("selection", "proof")}
        return cls(**{**values, "path": pathlib.Path(values["path"]), **judged})


def runtime_of(path: pathlib.Path, target: Target | None) -> str | None:
    """Return the runtime that judges a file for a target; `None`: that of its format."""
    return None if target is None else target.runtimes_of(format_of(path))[-1]


def is_micro(target: Target | None) -> bool:
    """Return whether TFLite Micro is what judges the `.tflite` files for a target.

    >>> from tfcompress import targets
    >>> micro = targets.get("microcontroller")
    >>> is_micro(micro), is_micro(micro.replace(runtimes=("tflm", "litert"))), is_micro(None)
    (True, False, False)
    """
    return target is not None and target.runtimes_of("tflite")[-1:] == (MICRO,)


@dataclasses.dataclass(frozen=True)
class Try:
    """One recipe that was run and judged.

    Attributes:
        name: of the try, in few words.
        recipe: what was run, as `Recipe.to_dict` writes it.
        files: what came out of it, a file for each format.
        seconds: that it took.
        outcome: what became of it, in words.
        key: of its recipe.
        model: path of the Keras model behind the files; `None`: there is none.
    """

    name: str
    recipe: Mapping[str, Any]
    files: tuple[TriedFile, ...] = ()
    seconds: float = 0.0
    outcome: str = ""
    key: str = ""
    model: pathlib.Path | None = None

    def file(self, format: str) -> TriedFile | None:
        """Return the file of a format; `None` if there is none."""
        return next((file for file in self.files if file.format == format), None)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        model = None if self.model is None else str(self.model)
        return {**dataclasses.asdict(self), "files": [file.to_dict() for file in self.files], "model": model}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Try:
        """Return the try that `to_dict` was called on."""
        model = None if values["model"] is None else pathlib.Path(values["model"])
        return cls(**{**values, "files": tuple(map(TriedFile.from_dict, values["files"])), "model": model})
