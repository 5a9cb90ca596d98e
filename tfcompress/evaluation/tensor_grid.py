"""Which numbers a quantized tensor can hold."""

from __future__ import annotations

import dataclasses

import numpy as np

from tfcompress.quantization.encoding import Affine, Table

FEW = 17
"""As many numbers are told one by one."""


@dataclasses.dataclass(frozen=True)
class TensorGrid:
    """The numbers that a quantized tensor can hold; where channels have scales of their own, what they span.

    Attributes:
        low: the least number; of the channel with the largest scale.
        high: the largest number; of the same channel.
        scale: the distance of two numbers, of that channel; None: they are the numbers of a table.
        smallest_scale: of all channels.
        scales: how many there are.
        values: all numbers, where there are few and one scale, or one table.
    """

    low: float
    high: float
    scale: float | None
    smallest_scale: float | None = None
    scales: int = 1
    values: tuple[float, ...] = ()

    @classmethod
    def of_scales(cls, scales: np.ndarray, lowest: float, highest: float) -> TensorGrid:
        """Return the grid of integers that are multiplied by scales.

        Args:
            scales: one, or one for each channel.
            lowest: the least integer less the zero point.
            highest: the largest integer less the zero point.

        >>> TensorGrid.of_scales(np.array([0.5, 0.25]), -127, 127)
        TensorGrid(low=-63.5, high=63.5, scale=0.5, smallest_scale=0.25, scales=2, values=())
        """
        largest, smallest = float(np.max(scales)), float(np.min(scales))
        count = round(highest - lowest) + 1
        values = ()
        if scales.size == 1 and count <= FEW:
            values = tuple((largest * np.linspace(lowest, highest, count)).tolist())
        return cls(largest * lowest, largest * highest, largest, smallest, int(scales.size), values)

    @classmethod
    def of_table(cls, table: np.ndarray) -> TensorGrid:
        """Return the grid of a table of values, of one dimension, or with a row for each channel."""
        values = np.unique(table) if table.ndim == 1 else np.zeros(0)
        few = tuple(values.tolist()) if values.size <= FEW else ()
        return cls(float(table.min()), float(table.max()), None, scales=len(table) if table.ndim > 1 else 1, values=few)

    @classmethod
    def of_integers(cls, integers: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, bits: int = 0) -> TensorGrid:
        """Return the grid of stored integers.

        Args:
            integers: of a weight.
            scale: it broadcasts with the integers, or has one for each block of them.
            zero_point: likewise.
            bits: of a symmetric grid; 0: as many as the integers take.
        """
        used, rank = scale, integers.ndim
        fits = scale.ndim == rank and all(own in (1, n) for own, n in zip(scale.shape, integers.shape, strict=True))
        if scale.size > 1 and fits:
            others = tuple(axis for axis, size in enumerate(scale.shape) if size == 1)
            filled = scale[(integers != zero_point).any(axis=others, keepdims=True)]
            used = filled if filled.size else scale  # the scale of nothing but zeros says nothing
        lowest, highest = float(integers.min(initial=0)), float(integers.max(initial=0))
        if zero_point.any():
            return cls.of_scales(used, lowest - float(zero_point.max()), highest - float(zero_point.min()))
        most = 2 ** (bits - 1 if bits else int(max(-lowest, highest, 1)).bit_length()) - 1
        return cls.of_scales(used, -most, most)

    @classmethod
    def of_encoding(cls, encoding: object) -> TensorGrid | None:
        """Return the grid of an encoded weight; `None` where it is stored as floats."""
        if isinstance(encoding, Table):
            return cls.of_table(encoding.values)
        if not isinstance(encoding, Affine):
            return None
        return cls.of_integers(encoding.integers, encoding.scale, np.asarray(encoding.zero_point), encoding.bits)

    def __str__(self) -> str:
        if self.scale is None or self.smallest_scale is None:
            return f"table{f's of {self.scales} channels' if self.scales > 1 else ''}"
        if self.scales == 1:
            return f"scale {self.scale:.3g}"
        return f"scale {self.smallest_scale:.3g} to {self.scale:.3g} ({self.scales} scales)"

    @property
    def marks(self) -> tuple[float, ...]:
        """What to mark beside the ends: each of few numbers, else the ends of the channel with the smallest scale."""
        if self.values:
            return self.values
        if self.scale and self.smallest_scale and self.scales > 1:
            ratio = self.smallest_scale / self.scale
            return self.low * ratio, self.high * ratio
        return ()
