"""What the proof needs to know of a quantized model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol


class Numbers(Protocol):
    """In what numbers a model computes."""

    @property
    def activations(self) -> str | None:
        """Whether the ranges of activations are "static" or "dynamic"; `None`: they are floats."""

    @property
    def activation_bits(self) -> int:
        """The bits of activations."""


class QuantizedModel(Protocol):
    """A quantized model as a file is to compute it."""

    @property
    def scheme(self) -> Numbers | None:
        """In what numbers; `None`: in float."""

    @property
    def rounding(self) -> Collection[str]:
        """The layers whose inputs, floats in the model, a kernel of the file rounds at run time."""

    @property
    def scales(self) -> Mapping[str, float | None]:
        """The scale of each output's grid, in the model's order; `None`: it has none."""
