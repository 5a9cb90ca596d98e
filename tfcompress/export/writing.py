"""A converted model on the disk: how large its file may be, and when its weights stand in a second one."""

from __future__ import annotations

import math
import os
import pathlib
from typing import Any

import keras

from tfcompress.core.arguments import check_choice
from tfcompress.core.atomic_files import check_target, exists
from tfcompress.core.out_of_memory import give_back
from tfcompress.export.onnx.detached_constants import constant_bytes, without_large_constants
from tfcompress.export.plan.scheme import Scheme
from tfcompress.export.tflite.weights.storage import PREFER, SIZE, SPEED
from tfcompress.quantization.numerics.float16_range import check_half
from tfcompress.runtime.external_data import data_file, external_files, move_out


def check_external(value: Any, kind: str, path: Any) -> None:
    """Refuse an `external_data` that is no choice, or that the format doesn't have."""
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"Expected external_data to be None, True or False. Received: external_data={value!r}.")
    if value and kind != "onnx":
        raise ValueError(
            f"Expected external_data=None or False for a .{kind} file. Received: external_data=True and "
            f"{os.fspath(path)!r}. Only ONNX has weights in a second file: export to .onnx."
        )


def check_prefer(value: Any, kind: str, path: Any) -> None:
    """Refuse a `prefer` that is no choice, or that the format doesn't have."""
    check_choice("prefer", value, PREFER)
    if value == SIZE and kind != "tflite":
        raise ValueError(
            f"Expected prefer={SPEED!r} for a .{kind} file. Received: prefer={value!r} and {os.fspath(path)!r}. Only "
            "TFLite's kernels differ by how many bits weights are stored in: export to .tflite, or leave it out."
        )


def check_weights(
    model: keras.Model, precision: str, kind: str, *, scheme: Scheme | None, external: bool | None, limit: int
) -> None:
    """Refuse weights that the file can't hold, before they are converted.

    Args:
        model: what is converted.
        precision: of the file.
        kind: "tflite" or "onnx".
        scheme: of a quantized model.
        external: whether weights may stand in a second file; None: where they must.
        limit: bytes that one file holds.

    Raises:
        ValueError: they are too many, or too large for float16.
    """
    floats = [weight for weight in model.variables if keras.backend.is_float_dtype(weight.dtype)]
    needed = sum(_stored_bytes(weight, precision, kind, scheme) for weight in floats)
    if needed > limit and (kind == "tflite" or external is False):
        raise _too_large(needed, model.name, kind, limit)
    if precision == "float16":
        check_half((weight.path, keras.ops.convert_to_numpy(weight.value)) for weight in floats)


def write(path: pathlib.Path, content: Any, external: bool | None, limit: int) -> None:
    """Write what was converted to a new file: one that a runtime may still have mapped stays what it was.

    Args:
        path: of the file, in a folder where nothing else stands.
        content: the bytes of a TFLite file; or an `onnx.ModelProto`, whose values are taken out where they get a file
            of their own, `data_file(path)`.
        external: whether they get one; None: where the file would be larger than `limit`.
        limit: bytes that one file holds.

    Raises:
        ValueError: it would be larger, and `external` is False.
    """
    for old in _written(path):
        old.unlink()
    if not isinstance(content, bytes):
        needed = constant_bytes(content.graph) + without_large_constants(content).ByteSize()
        if needed > limit and external is False:
            raise _too_large(needed, content.graph.name, "onnx", limit)
        if external or needed > limit:
            move_out(content, path)
        give_back(needed)
        content = content.SerializeToString()
    with open(path, "xb") as file:
        file.write(content)


def measured(beside: pathlib.Path, final: pathlib.Path) -> tuple[int, tuple[pathlib.Path, ...]]:
    """Return the bytes of what was written for `final`, and the files that it will have beside it."""
    files = _written(beside)
    real = pathlib.Path(os.path.realpath(final))
    return sum(file.stat().st_size for file in files), tuple(real.with_name(file.name) for file in files[1:])


def check_finished(beside: pathlib.Path, final: pathlib.Path, overwrite: bool) -> None:
    """Refuse to replace what came in the meantime.

    Args:
        beside: the file that was written.
        final: what it is to become.
        overwrite: whether what is there may be replaced.

    Raises:
        FileExistsError: something is there now, and `overwrite` is False.
    """
    check_free(final, overwrite, len(_written(beside)) > 1)


def _written(path: pathlib.Path) -> list[pathlib.Path]:
    """Return a file that was written here, and that which holds its weights, as far as they are there."""
    return [file for file in (path, data_file(path)) if os.path.isfile(file)]  # which takes names that are too long


def old_data(final: pathlib.Path) -> tuple[str, ...]:
    """Return the name of the data file of a `.onnx` file that is to be replaced, if it has one of ours."""
    real = pathlib.Path(os.path.realpath(final))
    beside = data_file(real)
    if real.suffix.lower() != ".onnx" or len(_written(real)) < 2:
        return ()
    try:
        return (beside.name,) if beside in external_files(real) else ()
    except Exception:  # what is there is no ONNX file
        return ()


def check_free(final: pathlib.Path, overwrite: bool, external: bool) -> None:
    """Raise an exception if no file may be written to `final`, or, if `external`, beside it too."""
    if not overwrite and final.exists():
        raise exists(final)
    if external:
        check_target(data_file(pathlib.Path(os.path.realpath(final))), ".data", overwrite)


def _stored_bytes(weight: Any, precision: str, kind: str, scheme: Scheme | None) -> int:
    """Return the bytes that a weight has at least in what is written on the way to a file, and in the file."""
    if precision == "float16":
        size = 2
    elif kind == "onnx" and scheme is not None and len(weight.shape) > 1:
        size = 1
    else:
        size = 4  # of integers in TFLite too: its converter writes floats first
    return size * math.prod(weight.shape)


def _too_large(needed: int, name: str, kind: str, limit: int) -> ValueError:
    way = (
        "Leave external_data at None, and they get a second file"
        if kind == "onnx"
        else "Export to .onnx, which gives them a second file; or split the model, or make a smaller file: "
        "precision='float16'"
    )
    return ValueError(
        f"Expected at most {limit / 1e9:.1f} GB of weights, what one file of either format holds. "
        f"Received: {needed / 1e9:.1f} GB in {name!r}. {way}."
    )
