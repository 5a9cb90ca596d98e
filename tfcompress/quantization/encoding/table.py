"""Places in a table of few values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfcompress.quantization.encoding.base import Encoding

LARGEST_TABLE = 256
"""Values of a table, whose places are one byte each."""


@dataclasses.dataclass(frozen=True, eq=False)
class Table(Encoding):
    """Places in a table of few values, a codebook: `values[indices]`.

    Attributes:
        indices: uint8, of the weight's shape.
        values: float32; (values,): one table for all, or (tables, values): along `axis` as many tables as it is long
            (one for each place), or a divisor of its length (one for each block of places).
        axis: The axis along which tables differ; None: there is one table.

    Example:

    >>> Table(np.array([[0, 2], [1, 1]], "uint8"), np.array([0.0, 0.5, -2.0], "float32")).decode().tolist()
    [[0.0, -2.0], [0.5, 0.5]]
    """

    indices: np.ndarray
    values: np.ndarray
    axis: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's shape."""
        return tuple(self.indices.shape)

    @property
    def zeros(self) -> np.ndarray:
        """Where the value is exactly 0."""
        return np.asarray(self.decode() == 0)

    def decode(self) -> np.ndarray:
        """Return the values, float32."""
        if self.axis is None:
            return np.asarray(self.values[self.indices])
        places = [1] * self.indices.ndim
        places[self.axis] = -1
        table = np.arange(self.shape[self.axis]) // (self.block or 1)
        return np.asarray(self.values[table.reshape(places), self.indices])

    @property
    def block(self) -> int | None:
        """How many places along `axis` share a table; None: there is one table."""
        return None if self.axis is None else self.shape[self.axis] // len(self.values)

    def transpose(self, order: Sequence[int]) -> Table:
        """Return the encoding of the weight with its axes in another order."""
        axis = None if self.axis is None else list(order).index(self.axis)
        return Table(self.indices.transpose(order), self.values, axis)

    def masked(self, kept: np.ndarray) -> Table:
        """Return the encoding of the weight with 0 where a mask is false; tables without a 0 get one.

        Raises:
            ValueError: If a table is full: its indices have no more places.
        """
        tables = np.atleast_2d(self.values)
        if not (tables == 0).any(axis=1).all():
            if tables.shape[1] == LARGEST_TABLE:
                raise ValueError(
                    f"Expected a table of at most {LARGEST_TABLE - 1} values, so that 0 can be one more. Received: "
                    f"{LARGEST_TABLE}. Take fewer values, or mask the weight before."
                )
            tables = np.concatenate([tables, np.zeros((len(tables), 1), np.float32)], axis=1)
        zeros = (tables == 0).argmax(axis=1).astype(self.indices.dtype)
        if self.axis is None:
            return Table(np.where(kept, self.indices, zeros[0]), tables[0])
        places = [1] * self.indices.ndim
        places[self.axis] = -1
        own = zeros.repeat(self.block or 1).reshape(places)
        return Table(np.where(kept, self.indices, own), tables, self.axis)

    def scaled(self, factor: np.ndarray) -> Table:
        """Return the encoding of the weight times a factor that differs along one axis at most."""
        factor = np.asarray(factor, np.float64)
        factor = factor.reshape((1,) * (self.indices.ndim - factor.ndim) + factor.shape)
        axes = [int(place) for place in np.flatnonzero(np.array(factor.shape) > 1)]
        if not axes:
            return Table(self.indices, (self.values * factor.item()).astype(np.float32), self.axis)
        block = self.block or 1
        if block > 1 and axes == [self.axis]:
            return Table(self.indices, np.repeat(self.values, block, 0), self.axis).scaled(factor)
        if len(axes) > 1 or self.axis not in (None, axes[0]):
            raise ValueError(
                f"Expected a factor along {'one axis' if self.axis is None else f'axis {self.axis}'}. Received: one of "
                f"shape {factor.shape}. Decode the table instead."
            )
        return Table(self.indices, (self.values * factor.reshape(-1, 1)).astype(np.float32), axes[0])
