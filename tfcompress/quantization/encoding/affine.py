"""Integers on a uniform grid."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfcompress.quantization.encoding.base import Encoding
from tfcompress.quantization.numerics.nudging import grid_of_scale, integers, symmetric_grid

PIECE = 1 << 20
"""How many values are looked at together, so that temporaries stay small beside a large weight."""


@dataclasses.dataclass(frozen=True, eq=False)
class Affine(Encoding):
    """Integers on a uniform grid: `scale * (integers - zero_point)`, as in TFLite's quantization specification.

    Attributes:
        integers: int8 up to 8 bits, else int16; of the weight's shape.
        scale: float32, of the weight's rank: along each axis as long as it (a scale for each place), 1 (one for all),
            or a divisor of its length (a scale for each block).
        zero_point: Integers that stand for 0; they broadcast with `scale`.
        bits: Of the grid.

    Example:

    >>> kernel = np.array([[2.5, -63.5], [0.0, 127.0]], "float32")
    >>> made = Affine.symmetric(kernel, np.abs(kernel).max(axis=1), bits=8, axis=(0,))
    >>> made.integers.tolist(), made.scale.tolist(), made.axis
    ([[5, -127], [0, 127]], [[0.5], [1.0]], (0,))
    """

    integers: np.ndarray
    scale: np.ndarray
    zero_point: Any = 0
    bits: int = 8

    @classmethod
    def symmetric(cls, values: np.ndarray, limit: Any, bits: int, axis: Sequence[int] = ()) -> Affine:
        """Return values on the narrow symmetric grid, as `fake_quant_symmetric` rounds them.

        Args:
            values: float32.
            limit: The largest value of the grid, at least 0; of the values' shape along `axis`.
            bits: 2 to 16; the largest integer is 2^(bits-1) - 1.
            axis: The axes whose places have a scale of their own; (): one scale for all.
        """
        grid = symmetric_grid(np, _along(values, limit, axis), bits)
        return cls._on(grid, values, bits)

    @classmethod
    def of_scale(
        cls, values: np.ndarray, scale: Any, bits: int, axis: Sequence[int] = (), narrow: bool = False
    ) -> Affine:
        """Return values on the symmetric grid of a scale, as `fake_quant_scaled` rounds them.

        Args:
            values: float32.
            scale: Above 0; of the values' shape along `axis`.
            bits: 2 to 16; the integers are those from -2^(bits-1) to 2^(bits-1) - 1.
            axis: The axes whose places have a scale of their own; (): one scale for all.
            narrow: Whether the lowest integer stays unused.

        >>> Affine.of_scale(np.float32([-9, 0.4, 9]), 0.5, bits=4).integers.tolist()
        [-8, 1, 7]
        """
        return cls._on(grid_of_scale(np, _along(values, scale, axis), bits, narrow), values, bits)

    @classmethod
    def _on(cls, grid: tuple[Any, Any, Any, Any], values: np.ndarray, bits: int) -> Affine:
        """Return values on a grid: its ends, scale and inverse."""
        low, high, scale, inverse = grid
        found = np.empty(values.shape, np.int8 if bits <= 8 else np.int16)
        for piece in pieces(values.shape):
            ends = (_part(low, piece), _part(high, piece))
            found[piece] = integers(np, values[piece], ends, _part(inverse, piece))
        return cls(found, np.where(scale == 0, np.float32(1), scale).astype(np.float32), bits=bits)

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's shape."""
        return tuple(self.integers.shape)

    @property
    def axis(self) -> tuple[int, ...]:
        """The axes along which scales differ."""
        return tuple(place for place, size in enumerate(self.scale.shape) if size > 1)

    @property
    def block(self) -> int | None:
        """How many values along an axis share a scale, where that is neither one nor all of them; None: no axis."""
        sizes = (whole // own for whole, own in zip(self.shape, self.scale.shape, strict=True) if 1 < own < whole)
        return next(sizes, None)

    @property
    def zeros(self) -> np.ndarray:
        """Where the value is exactly 0."""
        return np.asarray(self.integers == self._spread(np.asarray(self.zero_point)))

    def decode(self) -> np.ndarray:
        """Return the values, float32."""
        scale = self._spread(self.scale)
        if not np.any(self.zero_point):
            return np.multiply(self.integers, scale, dtype=np.float32)
        return ((self.integers.astype(np.int32) - self._spread(np.asarray(self.zero_point))) * scale).astype(np.float32)

    def decode_in_pieces(self) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
        """Yield places along the first axis and the values there, of a symmetric grid, without all of them at once."""
        for piece in pieces(self.shape):
            scale = self.scale
            if self.block is None:
                scale = _part(scale, piece)
            else:
                rows = np.arange(self.shape[0])[piece] * len(scale) // self.shape[0]
                scale = self._spread(scale[rows] if len(scale) > 1 else scale, 1)
            yield piece, np.multiply(self.integers[piece], scale, dtype=np.float32)

    def scale_at(self, places: Sequence[np.ndarray]) -> np.ndarray:
        """Return the scales of some values.

        Args:
            places: Their indices along each axis.
        """
        sizes = zip(places, self.shape, self.scale.shape, strict=True)
        return np.asarray(self.scale[tuple(place * own // whole for place, whole, own in sizes)])

    def transpose(self, order: Sequence[int]) -> Affine:
        """Return the encoding of the weight with its axes in another order."""
        zero = np.asarray(self.zero_point)
        zero = zero.transpose(order) if zero.ndim else zero
        return Affine(self.integers.transpose(order), self.scale.transpose(order), zero, self.bits)

    def masked(self, kept: np.ndarray) -> Affine:
        """Return the encoding of the weight with 0 where a mask is false."""
        zero = self._spread(np.asarray(self.zero_point)).astype(self.integers.dtype)
        return Affine(np.where(kept, self.integers, zero), self.scale, self.zero_point, self.bits)

    def reshape(self, shape: Sequence[int]) -> Affine:
        """Return the encoding of the weight in another shape; axes that have scales may be joined with others."""
        if np.any(self.zero_point):
            raise ValueError("Expected a symmetric grid. Received: zero points. Reshape the values instead.")
        made = self.integers.reshape(shape)
        if self.scale.size == 1:
            return Affine(made, self.scale.reshape([1] * made.ndim), bits=self.bits)
        if [size for size in shape if size != 1] == [size for size in self.shape if size != 1]:
            left = iter([own for own, whole in zip(self.scale.shape, self.shape, strict=True) if whole != 1])
            return Affine(made, self.scale.reshape([1 if size == 1 else next(left) for size in shape]), bits=self.bits)
        places = np.arange(self.scale.size, dtype=np.int32).reshape(self.scale.shape)
        places = np.broadcast_to(self._spread(places), self.shape).reshape(made.shape)
        for axis in range(made.ndim):
            size = int(made.shape[axis])
            others = tuple(at for at in range(made.ndim) if at != axis)
            borders = np.flatnonzero((np.diff(places, axis=axis) != 0).any(axis=others)) + 1
            places = places.take(range(0, size, math.gcd(size, *map(int, borders))), axis)
        return Affine(made, self.scale.reshape(-1)[places], bits=self.bits)

    def blocks(self) -> tuple[np.ndarray, np.ndarray]:
        """Return integers and scales that broadcast: an axis with blocks is two, the blocks and the places in each."""
        integers, scale = [], []
        for whole, own in zip(self.shape, self.scale.shape, strict=True):
            split = 1 < own < whole
            integers += [own, whole // own] if split else [whole]
            scale += [own, 1] if split else [own]
        return self.integers.reshape(integers), self.scale.reshape(scale)

    def take(self, places: Sequence[int], axis: int) -> Affine:
        """Return the encoding of some places of the weight along an axis."""

        def part(values: Any) -> Any:
            own = np.shape(values)[axis] if np.ndim(values) else 1
            return np.take(values, [place * own // self.shape[axis] for place in places], axis) if own > 1 else values

        return Affine(self.integers.take(places, axis), part(self.scale), part(self.zero_point), self.bits)

    def scaled(self, factor: np.ndarray) -> Affine:
        """Return the encoding of the weight times a factor, which broadcasts with its shape.

        A negative factor makes the lowest integer of a grid that isn't narrow one more than the largest: a bit more.
        """
        factor = np.asarray(factor, np.float64)
        factor = factor.reshape((1,) * (self.integers.ndim - factor.ndim) + factor.shape)
        signs = np.sign(factor).astype(np.int8)
        centred = self.integers if not np.any(self.zero_point) else self.integers - self.zero_point
        made = (centred * signs).astype(self.integers.dtype) + np.asarray(self.zero_point, self.integers.dtype)
        scale = self.scale
        for place in range(factor.ndim):
            if 1 < scale.shape[place] < factor.shape[place]:
                scale = np.repeat(scale, factor.shape[place] // scale.shape[place], place)
        scale = (scale * np.where(factor == 0, 1.0, np.abs(factor))).astype(np.float32)
        beyond = bool((factor < 0).any() and self.bits < 8 and made.max(initial=0) >= 2 ** (self.bits - 1))
        return Affine(made, scale, self.zero_point, self.bits + beyond)

    def _spread(self, values: np.ndarray, first: int = 0) -> np.ndarray:
        """Return scales or zero points so that they broadcast with the integers, along some axes: blocks repeat."""
        for place in range(first, values.ndim):
            whole, own = self.shape[place], values.shape[place]
            values = np.repeat(values, whole // own, place) if 1 < own < whole else values
        return values


def pieces(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield places along the first axis that together are all of an array, each of about a million values."""
    if shape and math.prod(shape):
        rows = max(1, PIECE * shape[0] // math.prod(shape))
        yield from ((slice(start, start + rows),) for start in range(0, shape[0], rows))
    elif not shape:
        yield ()


def _along(values: np.ndarray, own: Any, axis: Sequence[int]) -> np.ndarray:
    """Return numbers of an array's shape along some axes in a shape that broadcasts with it."""
    return np.asarray(own, np.float32).reshape([size if at in axis else 1 for at, size in enumerate(values.shape)])


def _part(values: np.ndarray, piece: tuple[slice, ...]) -> np.ndarray:
    return values[piece] if values.shape[:1] != (1,) else values
