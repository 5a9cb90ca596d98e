"""Tensors of a graph that are an input, moved about or mapped by constants."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfcompress.core.sharding import gathered
from tfcompress.layers.names import name_of

Ends = Any
"""A float, or an array of one for each channel, along the last axis."""

MOST_POINTS = 64


@dataclasses.dataclass(frozen=True)
class Content:
    """What an input holds.

    Attributes:
        about: In words, for a reader.
        low: The least value.
        high: The largest.
        whole: Whether values are whole numbers; of each channel, if they aren't alike.
        normal: Whether `low` and `high` are a mean and a deviation, of normally distributed values.
        points: Values on whose two sides something else happens.
        padded: What the end of a sequence is filled up with; `None`: nothing.
    """

    about: str
    low: Ends = None
    high: Ends = None
    whole: Any = False
    normal: bool = False
    points: tuple[float, ...] = ()
    padded: float | None = None


NOISE = Content("standard normal noise: nothing is known of the inputs")
WHOLE = "whole numbers that each table of the model has: nothing else is known of the inputs"
CALIBRATED = "drawn from the calibrated range of each channel"
ORDER = ("table", "normalization", "pixels")
"""Of what is found of one input the first counts."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A tensor that is `scale * x + offset` of an input, or of several put together; of which channels, if not all."""

    sources: tuple[int, ...]
    scale: Ends = 1.0
    offset: Ends = 0.0
    columns: Any = None
    by: str = ""

    def back(self, y: Ends) -> Ends:
        """Return the values of the input that are mapped to `y`."""
        return (y - self.offset) / self.scale


_PASS = re.compile(
    "identity|linear|(spatial|alpha)?dropout([123]d)?|gaussian(noise|dropout)|cast|masking|resizing|centercrop|pad|copy|"
    "cropping[123]d|zeropadding[123]d|stopgradient|activityregularization|converttotensor|random.*"
)
_MOVES = re.compile("reshape|flatten|permute|transpose|expanddims|squeeze|ravel|repeatvector|unstack")
_ARITHMETIC = ("add", "subtract", "multiply", "truedivide", "divide")


def passes(kind: str, call: Any) -> bool:
    """Return whether an operation moves values about, or leaves them as they are in inference."""
    return len(call.inputs) == 1 and bool(_PASS.fullmatch(kind) or _MOVES.fullmatch(kind))


def moved(kind: str, call: Any, x: Any, line: Line) -> list[Line]:
    """Return the lines of what an operation that `passes` makes: none if it moves channels that are told apart."""
    alike = np.ndim(line.scale) == 0 and np.ndim(line.offset) == 0 and line.columns is None
    keeps = not _MOVES.fullmatch(kind) or (
        kind in ("reshape", "expanddims") and call.outputs[0].shape[-1] == x.shape[-1]
    )
    return [line] * len(call.outputs) if keeps or alike else []


def columns_of(operation: Any, call: Any, x: Any, line: Line) -> Iterator[Line | None]:
    """Yield the lines of parts of the last axis."""
    if len(line.sources) > 1:
        yield from [line] * len(call.outputs)
        return
    rank, width = len(x.shape), x.shape[-1]
    before = np.arange(width) if line.columns is None and width is not None else line.columns
    if name_of(operation) == "split":
        if operation.axis in (-1, rank - 1) and width is not None:
            parts = np.split(before, operation.indices_or_sections)
            yield from (_part(line, before, part) for part in parts)
        return
    key = call.arguments[1] if len(call.arguments) > 1 else call.keywords.get("key")
    keys = list(key) if isinstance(key, list | tuple) else [key]
    if any(not (k is None or k is Ellipsis or isinstance(k, slice | int | np.integer)) for k in keys):
        return
    used = sum(k is not None and k is not Ellipsis for k in keys)
    last = keys[-1] if keys[-1] is not None else None
    touches = used == rank or (Ellipsis in keys and keys[-1] is not Ellipsis and keys[-1] is not None)
    if not touches or last == slice(None):
        if (np.ndim(line.scale) == 0 and np.ndim(line.offset) == 0) or None not in keys:
            yield line
        return
    if rank == 2:
        yield line if width is None else _part(line, before, np.atleast_1d(before[last]))


def _part(line: Line, before: Any, part: Any) -> Line:
    places = np.searchsorted(before, part)
    scale, offset = (np.asarray(v)[places] if np.ndim(v) else v for v in (line.scale, line.offset))
    return dataclasses.replace(line, scale=scale, offset=offset, columns=part)


def affine(operation: Any, kind: str, call: Any, x: Any) -> tuple[Ends, Ends] | None:
    """Return the factor and the term of an operation with constants, along the last axis at most."""
    if kind in ("rescaling", "negative"):
        return (-1.0, 0.0) if kind == "negative" else tuple(map(_of_channels, (operation.scale, operation.offset)))
    if kind not in _ARITHMETIC or len(call.inputs) != 1 or len(call.arguments) != 2:
        return None
    first = call.arguments[0] is x
    other = call.arguments[1] if first else call.arguments[0]
    try:
        constant = _of_channels(other)
    except (TypeError, ValueError):
        return None
    if kind in ("add", "subtract"):
        return (1.0 if first or kind == "add" else -1.0), (-constant if kind == "subtract" and first else constant)
    if kind != "multiply" and (not first or np.any(constant == 0)):
        return None
    return (constant if kind == "multiply" else 1.0 / constant), 0.0


def _of_channels(value: Any) -> Any:
    array = np.asarray(gathered(value) if hasattr(value, "dtype") else value, float)
    if array.ndim > 1 and any(size != 1 for size in array.shape[:-1]):
        raise ValueError("Expected constants along the last axis.")
    return float(array.ravel()[0]) if array.size == 1 else array.reshape(array.shape[-1])
