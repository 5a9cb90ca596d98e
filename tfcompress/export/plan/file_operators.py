"""What is known of the operators of a written file: which compute in integers, which in floats, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from tfcompress.quantization.numerics.grid import Grid

MOST_LAYERS = 4
"""Whose weights are stored alike that are named."""


@dataclasses.dataclass(frozen=True)
class FloatOperator:
    """An operator that computes in floating point.

    Attributes:
        kind: As the format calls it, "CONV_2D" or "Conv".
        tensor: Name of what it makes.
        layer: Whose work it does; `None`: not known.
        reason: Why it isn't computed in integers; empty for a model that isn't quantized.
    """

    kind: str
    tensor: str
    layer: str | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class StoredWeight:
    """A weight of fewer than 8 bits, and in what a file stores it.

    Attributes:
        layer: That has it.
        bits: Of its integers.
        type: As read in the file, "int4".
        why: Why in no smaller type; empty: there is none that holds them.
    """

    layer: str
    bits: int
    type: str
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Operators:
    """What the operators of a file compute in.

    What turns floats into integers or back, constants that are unpacked when the file is loaded, what works on indices,
    and what is computed of shapes and constants alone, whatever the data, count as neither.

    Attributes:
        integer: How many compute in integers.
        floats: Those that compute in floating point.
        kinds: {kind, as the format calls it: how many of it}, of all operators in the file, whatever they do.
        narrow: Of an exported model: its weights of fewer than 8 bits.
    """

    integer: int
    floats: tuple[FloatOperator, ...]
    kinds: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False)
    narrow: tuple[StoredWeight, ...] = ()

    def lines(self) -> list[str]:
        """Return what a reader is told: the two counts, by layer what is float beside integers, and narrow weights."""
        count = "1 operator computes" if self.integer == 1 else f"{self.integer} operators compute"
        said = [f"{count} in integers, {len(self.floats)} in float"]
        groups: dict[tuple[str | None, str], list[str]] = {}
        for op in self.floats if self.integer else ():
            groups.setdefault((op.layer, op.reason), []).append(op.kind)
        for (layer, reason), kinds in groups.items():
            said.append(f"  float: {'layer ' + repr(layer) if layer else 'no layer known'}: {', '.join(kinds)}")
            said[-1] += f" ({reason})" if reason else ""
        forms: dict[tuple[int, str, str], list[str]] = {}
        for weight in self.narrow:
            forms.setdefault((weight.bits, weight.type, weight.why), []).append(weight.layer)
        for (bits, kind, why), layers in forms.items():
            named = f"{', '.join(layers[:MOST_LAYERS])}{', ...' if layers[MOST_LAYERS:] else ''}"
            count = "1 weight" if len(layers) == 1 else f"{len(layers)} weights"
            said.append(f"  {count} of {bits} bits stored in {kind}: {named}")
            said[-1] += f" ({why})" if why else ""
        return said


@dataclasses.dataclass(frozen=True)
class FileOperator:
    """An operator of a file that computes.

    Attributes:
        kind: As the format calls it.
        tensor: Name of what it makes.
        names: What may say which layer it comes from, likeliest first.
        integer: Whether it computes in integers.
        weights: What its constant weights are stored as, "int8", "int4", "float16" or "float32"; `None`: it has none.
        size: Number of its weights.
        before: Positions of the operators that make its inputs.
        integers: `digest` of its weights' integers, where these have 8 bits or fewer; empty: not known.
    """

    kind: str
    tensor: str
    names: tuple[str, ...]
    integer: bool
    weights: str | None = None
    size: int = 0
    before: tuple[int, ...] = ()
    integers: str = ""


@dataclasses.dataclass(frozen=True)
class FileArithmetic:
    """In what numbers a file computes, as read in it.

    Attributes:
        operators: Those that compute, in their order.
        precision: As `Artifact.precision`.
        grids: (name of a tensor, the grid that it is rounded to), of activations.
        kinds: As `Operators.kinds`.
    """

    operators: tuple[FileOperator, ...]
    precision: str
    grids: tuple[tuple[str, Grid], ...] = ()
    kinds: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def counted(self) -> Operators:
        """Return what the operators compute in, as far as the file alone says it."""
        floats = tuple(FloatOperator(op.kind, op.tensor) for op in self.operators if not op.integer)
        return Operators(len(self.operators) - len(floats), floats, self.kinds)


def label(kernels: Iterable[int], activations: int | str | None, halves: bool) -> str:
    """Return the name of a precision.

    Args:
        kernels: The bits of each constant weight that is stored in integers (see `width`).
        activations: The bits of activations; "dynamic": those of products are rounded at run time; `None`: float.
        halves: Whether weights are stored in 16 bits floats.

    >>> label([8], 16, False), label([4, 8], 8, False), label([4], "dynamic", False), label([8], None, False)
    ('int16x8', 'int8', 'dynamic int4', 'int8 weights')
    """
    widths = list(kernels)
    bits = max(widths, default=8)
    if activations == "dynamic":
        return f"dynamic int{bits}"
    if isinstance(activations, int):
        return f"int{activations}" if activations == bits else f"int{activations}x{bits}"
    if widths:
        return f"int{bits} weights"
    return "float16" if halves else "float32"


def width(integers: np.ndarray) -> int:
    """Return how many bits signed integers need, at least 2.

    >>> width(np.array([-7, 7])), width(np.array([-2, 1])), width(np.array([-128, 0])), width(np.zeros(3, int))
    (4, 2, 8, 2)
    """
    least, most = int(integers.min(initial=0)), int(integers.max(initial=0))
    return max(most, -least - 1, 1).bit_length() + 1
