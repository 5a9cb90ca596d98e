"""How many rows the inputs of a file have: as many samples in each, or, of a graph's nodes and edges, other numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from tfcompress.core.uneven_rows import fixes_rows, is_uneven
from tfcompress.graph.inputs.declared import given_shapes
from tfcompress.tracing.signature import Signature

BatchSize = int | Literal["auto"] | None
"""Samples that a file takes at once: so many, as its format is used, or any number."""

AUTO: Literal["auto"] = "auto"


def is_named_size(batch_size: Any) -> bool:
    """Return whether a batch size is one that isn't a number: "auto" or None."""
    return batch_size is None or (isinstance(batch_size, str) and batch_size == AUTO)


def rows_of_file(
    signature: Signature, kind: str, batch_size: BatchSize, given: Mapping[str, np.ndarray] | None
) -> int | dict[str, int | None] | None:
    """Return the first dimension of a file's inputs: of all of them, or of each by its name; None: free.

    Args:
        signature: of the model.
        kind: "tflite" or "onnx".
        batch_size: as `export` takes it.
        given: data to compare on, by input name.

    Raises:
        ValueError: the inputs have different numbers of rows, and `batch_size` is none of them.
    """
    rows = _rows(signature, given)
    if rows is not None:
        return _of_whole(signature, rows, kind, batch_size)
    if not isinstance(batch_size, str):
        return batch_size
    fixed = [spec.shape[0] for spec in signature.inputs.values() if spec.shape and spec.shape[0]]
    if fixed:
        return fixed[0]
    return 1 if kind == "tflite" else None


def _rows(signature: Signature, given: Mapping[str, np.ndarray] | None) -> dict[str, int | None] | None:
    """Return how many rows each input has, where the model, the data or the user say different numbers."""
    own = {name: spec.shape for name, spec in signature.inputs.items()}
    if fixes_rows(own.values()):
        return {name: shape[0] if shape else None for name, shape in own.items()}
    if given is not None:
        return {name: len(x) if x.ndim else None for name, x in given.items()} if is_uneven(given.values()) else None
    shapes = dict(zip(own, given_shapes(list(own), list(own.values())), strict=True))
    if not fixes_rows(shapes.values()):
        return None
    return {name: shape[0] if shape else None for name, shape in shapes.items()}


def _of_whole(
    signature: Signature, rows: dict[str, int | None], kind: str, batch_size: BatchSize
) -> dict[str, int | None]:
    """Return the rows of a file's inputs: those that the model fixes, and for the rest what was asked for."""
    own = {name: spec.shape[0] if spec.shape else None for name, spec in signature.inputs.items()}
    if batch_size is None or (batch_size == AUTO and kind == "onnx"):
        return own
    if batch_size != AUTO and batch_size not in rows.values():
        raise ValueError(
            f"Expected batch_size=None (any number of rows) or none at all, since the inputs have different numbers of "
            f"rows, {rows}, of which the file takes as many. Received: batch_size={batch_size}."
        )
    return rows
