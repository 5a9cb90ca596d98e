"""An ONNX file whose integer weights are unpacked when it is loaded, made of one that stores them plainly."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np

from tfcompress.core.arguments import check_choice
from tfcompress.core.out_of_memory import give_back
from tfcompress.export.file_arithmetic import read_arithmetic
from tfcompress.export.onnx.detached_constants import without_large_constants
from tfcompress.export.onnx.stored_weights import WIDE
from tfcompress.export.onnx.weights.coding import CodedWeight, code
from tfcompress.export.onnx.weights.plain import Plain
from tfcompress.export.plan.file_operators import FileArithmetic, StoredWeight
from tfcompress.export.plan.scheme import scheme_of
from tfcompress.export.writing import write
from tfcompress.quantization.quantize import is_quantized
from tfcompress.runtime.external_data import data_file, read

PLAIN, CODED, AUTO = "plain", "coded", "auto"
NO_SMALLER = "no other form makes the file smaller"
WEIGHTS = (PLAIN, CODED, AUTO)
"""What `tfc.export(..., weights=)` takes."""


def check_coded(model: Any, weights: Any, kind: str, path: Any, decodes: bool = False) -> None:
    """Refuse a `weights` that is no choice, or that there can't be for a model or format.

    Args:
        model: What is exported.
        weights: As asked.
        kind: "tflite" or "onnx".
        path: Of the file.
        decodes: Whether the runtime of a `.tflite` file looks weights up in tables.
    """
    check_choice("weights", weights, WEIGHTS)
    if weights == CODED and kind != "onnx" and not decodes:
        raise ValueError(
            f"Expected weights='plain' or 'auto' for a .{kind} file. Received: weights='coded' and "
            f"{os.fspath(path)!r}. Only ONNX Runtime computes a file's constants when it loads it, and TFLite Micro "
            "looks them up: export to .onnx, or with target='microcontroller'."
        )
    if weights == CODED and (not is_quantized(model) or scheme_of(model) is None):
        raise ValueError(
            f"Expected a model with weights of integers for weights='coded'. Received: {model.name!r}, whose weights "
            "are float. Quantize it first, with tfcompress.quantize(model, 'int8', data), or leave weights out."
        )


def code_weights(
    path: pathlib.Path,
    plain: FileArithmetic,
    layer_of: Callable[[np.ndarray], str | None],
    *,
    always: bool,
    names: bool,
    external: bool | None,
    limit: int,
    bits: Collection[int],
) -> tuple[tuple[CodedWeight, ...], tuple[str, ...]]:
    """Let a written ONNX file be one that unpacks itself.

    Args:
        path: Of the file; it is replaced.
        plain: What was read in it.
        layer_of: Takes the integers of a weight, returns the layer that has it; `None`: not known.
        always: Whether to do so where the file doesn't get smaller.
        names: Whether inner tensors keep their names.
        external: Whether values stand in a second file; `None`: where they must.
        limit: Bytes that one file holds.
        bits: Of ONNX' own types that weights may have.

    Returns:
        How the file that is there now stores each weight, none: it is as it was; and the names that were shortened, as
        `Artifact.tensor_names` has them.

    Raises:
        ValueError: The coded file doesn't decode to the plain one.
    """
    import onnx

    before = sum(file.stat().st_size for file in (path, data_file(path)) if file.is_file())
    proto = read(path)
    stored, lost = code(proto, layer_of, names, bits)
    if not always and proto.ByteSize() >= before:
        return (), ()
    onnx.checker.check_model(without_large_constants(proto))
    write(path, proto, external, limit)
    made = read_arithmetic(path)
    give_back(before, cycles=False)
    if _facts(made) != _facts(plain):
        raise ValueError(
            f"Expected a coded file that decodes to the plain one. Received: {made.precision} instead of "
            f"{plain.precision}, or operators with other weights. Export with weights='plain'."
        )
    return stored, lost


def summary(stored: Sequence[CodedWeight]) -> tuple[str, ...]:
    """Return what a reader is told: bytes as int8 and coded, and how many weights are in each form."""
    if not stored:
        return ()
    forms = collections.Counter(one.form for one in stored)
    counted = "; ".join(f"{count} as {form}" for form, count in forms.most_common())
    plain, nbytes = sum(one.plain_bytes for one in stored), sum(one.nbytes for one in stored)
    if set(forms) == {str(Plain())}:
        return (f"weights: {plain:,} bytes as int8, which no other form makes less: the rest of the file is smaller.",)
    said = f"weights: {nbytes:,} bytes that unpack themselves when the file is loaded, {plain:,} as int8 ({counted})."
    return (said,)


def as_coded(narrow: Iterable[StoredWeight], stored: Sequence[CodedWeight]) -> tuple[StoredWeight, ...]:
    """Return in what weights of fewer than 8 bits are stored that are coded."""
    forms: dict[str | None, dict[str, None]] = {}
    for one in stored:
        forms.setdefault(one.layer, {})[one.form] = None

    def coded(weight: StoredWeight) -> StoredWeight:
        form = " and ".join(forms.get(weight.layer, ())) if weight.type == "int8" else ""
        if not form:
            return weight
        instead = NO_SMALLER if form == str(Plain()) else ""
        return dataclasses.replace(weight, type=form, why=instead if weight.why == WIDE else weight.why)

    return tuple(map(coded, narrow))


def _facts(arithmetic: FileArithmetic) -> Any:
    """Return what a coded file has to have in common with the plain one."""
    operators = [(op.kind, op.integer, op.weights, op.size, op.integers) for op in arithmetic.operators]
    return arithmetic.precision, operators, [grid for _, grid in arithmetic.grids]
