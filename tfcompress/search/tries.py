"""What a search tried, and what it found."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import zlib
from collections.abc import Mapping
from typing import Any

from tfcompress.core.atomic_files import draft
from tfcompress.evaluation.timing import benchmark
from tfcompress.export.writing import old_data
from tfcompress.runtime.external_data import whole
from tfcompress.search.judgement import Judgement


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
    """

    format: str
    path: pathlib.Path
    nbytes: int
    zipped: int | None = None
    ms: float | None = None
    selection: Judgement | None = None
    proof: Judgement | None = None

    @classmethod
    def measured(cls, format: str, path: pathlib.Path, selection: Judgement | None, inputs: Any = None) -> TriedFile:
        """Return a file with its bytes, plain and deflated, those of files that hold its weights among them.

        Args:
            format: as the attribute.
            path: of the file.
            selection: as the attribute.
            inputs: to take the latency with; `None`: it isn't measured.
        """
        contents = [one.read_bytes() for one in whole(path)]
        zipped = sum(len(zlib.compress(content, 9)) for content in contents)
        ms = None if inputs is None else benchmark(path, inputs, seconds=0.5).median_ms
        return cls(format, path, sum(map(len, contents)), zipped, ms, selection)

    def copied(self, target: pathlib.Path) -> pathlib.Path:
        """Copy the file to a path of the same name in another folder, with those that hold its weights.

        What is there is replaced as a whole, also where it has its weights in a file of their own.
        """
        with draft(target, old_data(target)) as beside:
            for one in whole(self.path):
                shutil.copyfile(one, beside.parent / one.name)
        return target

    def cost(self, minimize: str) -> float:
        """Return what is minimized: "size" or "zip" in bytes, "latency" in milliseconds; infinite if unknown."""
        value = {"size": self.nbytes, "zip": self.zipped, "latency": self.ms}[minimize]
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
