"""What a file may be that is for a kind of machine."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tfcompress.core.arguments import check_choice, check_count, check_flag, short
from tfcompress.core.names import nearest_names
from tfcompress.core.plain_files import file_named, parsed, write_values
from tfcompress.targets.operators import OperatorSet

FORMATS = ("tflite", "onnx")
NUMBERS = ("float32", "float16", "int8", "int16x8", "int8_weights", "dynamic_int8")
"""In what files compute, as `tfc.quantize` names it; of the weights' bits there is `Target.weight_bits`."""

GRANULARITIES = ("per_channel", "per_tensor", "blocks")
RUNTIMES = {"litert": "tflite", "tflm": "tflite", "onnxruntime": "onnx"}
"""{a runtime's name: the format of its files}."""

ARITHMETICS = ("xnnpack", "reference", "onnxruntime")
INTEGER_IO = ("float32", "int8", "uint8")
OPERATORS = ("tflm",)
"""Sets of operators that are kept (see `tfcompress.targets.operators`)."""

FORM = "a target: {'name': ..., 'formats': ['tflite'], 'runtimes': ['tflm'], ...}"


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file may be that is for a kind of machine, as plain data.

    Args:
        name: Of letters, digits, "-", "_" and ".".
        about: In a sentence, what it is.
        formats: "tflite" or "onnx": those of its files, the first being the usual one.
        fixed_sizes: Whether no size may be free.
        batch: Samples that a file takes at once where nothing else is said; `None`: as the format is used.
        integer_io: Dtype of the inputs and outputs of a file with 8-bit activations where nothing else is said.
        numbers: In what a file may compute: "float32", "float16", "int8", "int16x8", "int8_weights", "dynamic_int8".
        integers_only: Whether no operator may compute in float.
        weight_bits: Widths in which weights may be stored.
        granularity: What may have a scale: "per_channel", "per_tensor", "blocks".
        operators: The set of operators that the runtime has; `None`: all of the format.
        runtimes: Which prove the file: "litert", "tflm", "onnxruntime".
        arithmetic: How its kernels round: "xnnpack", "reference", "onnxruntime".
        accelerator: An Ethos-U that files are compiled for after the export, as Vela names it; `None`: none.

    Raises:
        ValueError: If a field holds something else.

    Example:

    >>> import tfcompress as tfc
    >>> micro = tfc.targets.get("microcontroller")
    >>> micro.formats, micro.integer_io, micro.runtimes
    (('tflite',), 'int8', ('tflm',))
    """

    name: str
    about: str = ""
    formats: tuple[str, ...] = ("tflite",)
    fixed_sizes: bool = False
    batch: int | None = None
    integer_io: str = "float32"
    numbers: tuple[str, ...] = NUMBERS
    integers_only: bool = False
    weight_bits: tuple[int, ...] = (8,)
    granularity: tuple[str, ...] = GRANULARITIES
    operators: str | None = None
    runtimes: tuple[str, ...] = ("litert",)
    arithmetic: str = "xnnpack"
    accelerator: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(f"Expected name to be of letters, digits, '-', '_' and '.'. Received: {short(self.name)}.")
        for field, allowed in (("formats", FORMATS), ("numbers", NUMBERS), ("granularity", GRANULARITIES)):
            self._check_some(field, allowed)
        self._check_some("runtimes", RUNTIMES)
        self._check_some("weight_bits", range(2, 9))
        check_choice("integer_io", self.integer_io, INTEGER_IO)
        check_choice("arithmetic", self.arithmetic, ARITHMETICS)
        check_choice("operators", self.operators, (None, *OPERATORS))
        check_flag("fixed_sizes", self.fixed_sizes)
        check_flag("integers_only", self.integers_only)
        if self.batch is not None:
            check_count("batch", self.batch)
        if without := [one for one in self.formats if one not in map(RUNTIMES.__getitem__, self.runtimes)]:
            raise ValueError(
                f"Expected a runtime that proves .{without[0]} files. Received: runtimes={list(self.runtimes)}. Add "
                f"{' or '.join(repr(name) for name, kind in RUNTIMES.items() if kind == without[0])}, or leave that "
                "format out."
            )

    def _check_some(self, field: str, allowed: Iterable[Any]) -> None:
        values = getattr(self, field)
        if isinstance(values, list):
            values = tuple(values)
            msgspec.structs.force_setattr(self, field, values)
        if not isinstance(values, tuple) or not values:
            raise ValueError(f"Expected {field} to be a list with an entry. Received: {field}={short(values)}.")
        for value in values:
            check_choice(field, value, allowed)

    def runtimes_of(self, format: str) -> tuple[str, ...]:
        """Return the runtimes that prove files of a format."""
        return tuple(name for name in self.runtimes if RUNTIMES[name] == format)

    @property
    def known_operators(self) -> OperatorSet | None:
        """The operators that the runtime has; `None`: all of the format."""
        return None if self.operators is None else OperatorSet.get(self.operators)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON and YAML."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found

    @classmethod
    def from_dict(cls, values: Any) -> Target:
        """Return the target of plain values, as a file has them.

        Raises:
            ValueError: If they are none; the message says the nearest name.
        """
        if not isinstance(values, Mapping) or "name" not in values:
            raise ValueError(f"Expected {FORM}. Received: {short(values)}.")
        if unknown := [name for name in values if name not in cls.__struct_fields__]:
            raise ValueError(
                f"Expected fields of a target: {', '.join(cls.__struct_fields__)}. Received: {unknown[0]!r}."
                f"{nearest_names(unknown, cls.__struct_fields__)}"
            )
        try:
            return msgspec.convert(dict(values), cls)
        except msgspec.ValidationError as error:
            raise ValueError(f"Expected {FORM}. Received: what isn't one: {error}.") from None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Target:
        """Return the target of a `.yaml`, `.yml` or `.json` file.

        Raises:
            FileNotFoundError: If it isn't there.
            ValueError: If it holds something else.
        """
        with file_named(path, "a target", "a target"):
            return cls.from_dict(parsed(path, FORM))

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> pathlib.Path:
        """Write it to a `.yaml`, `.yml` or `.json` file, whole or not at all, and return the path.

        Raises:
            FileExistsError: If the file is there and `overwrite` is False.
            ValueError: If the path has another suffix.
        """
        return write_values(path, self.to_dict(), overwrite)

    def replace(self, **fields: Any) -> Target:
        """Return the target with other fields, such as `name="mine"`."""
        return msgspec.structs.replace(self, **fields)
