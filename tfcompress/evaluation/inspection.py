"""What is in a `.tflite` or `.onnx` file: its inputs and outputs, its operators, and what its bytes are."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tfcompress.data.named_inputs import TensorInfo
from tfcompress.evaluation.file_constants import bytes_by_dtype, open_onnx
from tfcompress.export.file_arithmetic import read_arithmetic
from tfcompress.export.onnx.weights.folding import is_coded
from tfcompress.reports.tables import plain, to_text
from tfcompress.runtime.external_data import external_files
from tfcompress.runtime.integer_io import with_grids
from tfcompress.runtime.opening import open_runner

REST = "operators, names and shapes"
"""What the bytes of a file are that aren't constants."""


@dataclasses.dataclass(frozen=True)
class OperatorKind:
    """The operators of a kind.

    Attributes:
        kind: As the format calls it.
        integer: How many compute in integers.
        float: How many compute in floating point.
        weights: What their constant weights are stored as, each once.
        parameters: How many weights they have together.
    """

    kind: str
    integer: int
    float: int
    weights: tuple[str, ...]
    parameters: int


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What is in a file.

    Attributes:
        path: Of the file.
        format: "tflite" or "onnx".
        precision: As `tfc.Artifact` says it.
        nbytes: Of the file, with that of files that belong to it.
        inputs: By name, in the order of the file.
        outputs: By name, in the order of the file.
        operators: By kind, in the order in which they come first; without those that compute nothing.
        bytes_by_kind: {dtype of constants, or what else there is: bytes}; together `nbytes`.
        coded: Whether integers are unpacked when the file is loaded: operators have them as they are then.
    """

    path: pathlib.Path
    format: str
    precision: str
    nbytes: int
    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    operators: tuple[OperatorKind, ...]
    bytes_by_kind: dict[str, int]
    coded: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        found = {**dataclasses.asdict(self), "path": str(self.path)}
        for kind in ("inputs", "outputs"):
            found[kind] = [{"name": name, **info} for name, info in found[kind].items()]
        return plain(found)

    def __str__(self) -> str:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        lines = [f"{self.path}: {self.format}, {self.precision}, {self.nbytes:,} bytes"]
        lines += [f"  input {_line(name, info)}" for name, info in self.inputs.items()]
        lines += [f"  output {_line(name, info)}" for name, info in self.outputs.items()]
        lines += ["  integers are stored in fewer bits and unpacked when the file is loaded"] if self.coded else []
        operators = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for title in ("operator", "integer", "float", "weights", "stored as"):
            operators.add_column(title, justify="left" if title in ("operator", "stored as") else "right")
        for one in self.operators:
            cells = (one.kind, str(one.integer), str(one.float), f"{one.parameters:,}", ", ".join(one.weights))
            operators.add_row(*map(Text, cells))
        return to_text("\n".join(lines), operators, table_of_bytes(self.bytes_by_kind))


def _line(name: str, info: TensorInfo) -> str:
    sizes = ", ".join("any" if size is None else str(size) for size in info.shape)
    grid = "" if info.scale is None else f", scale {info.scale:.6g}, zero point {info.zero_point}"
    return f"{name}: {info.dtype} ({sizes}){grid}"


def table_of_bytes(sizes: Mapping[str, int]) -> Any:
    """Return a table of what bytes are, how many and which share of all."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("bytes of", "bytes", "share"):
        table.add_column(title, justify="left" if title == "bytes of" else "right")
    for kind, size in sizes.items():
        table.add_row(Text(kind), f"{size:,}", f"{size / max(sum(sizes.values()), 1):.1%}")
    return table


def inspect_file(path: str | os.PathLike[str]) -> Inspection:
    """Return what is in a file.

    Args:
        path: Of a `.tflite` or `.onnx` file, written by anyone.

    Raises:
        FileNotFoundError: If it isn't there.
        ValueError: If it has another suffix, or its runtime refuses it.
    """
    runner = open_runner(path)
    file = pathlib.Path(path)
    arithmetic = read_arithmetic(file)
    grouped: dict[str, list[Any]] = collections.defaultdict(list)
    for operator in arithmetic.operators:
        grouped[operator.kind].append(operator)
    operators = tuple(
        OperatorKind(
            kind,
            sum(one.integer for one in found),
            sum(not one.integer for one in found),
            tuple(dict.fromkeys(one.weights for one in found if one.weights)),
            sum(one.size for one in found),
        )
        for kind, found in grouped.items()
    )
    files = [file, *(external_files(file) if runner.format == "onnx" else ())]
    nbytes = sum(each.stat().st_size for each in files)
    constants = bytes_by_dtype(file)
    sizes = {f"{dtype} constants": size for dtype, size in sorted(constants.items(), key=lambda item: -item[1])}
    sizes[REST] = nbytes - sum(constants.values())
    specs = with_grids(runner.input_specs, runner), with_grids(runner.output_specs, runner)
    coded = runner.format == "onnx" and is_coded(open_onnx(file))
    return Inspection(file, runner.format, arithmetic.precision, nbytes, *specs, operators, sizes, coded)
