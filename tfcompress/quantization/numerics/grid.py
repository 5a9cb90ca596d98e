"""The grid of a tensor: which real numbers its integers stand for."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from tfcompress.quantization.numerics.nudging import nudge


@dataclasses.dataclass(frozen=True)
class Grid:
    """Real numbers as `scale * (q - zero_point)`, q a signed integer, as in TFLite's quantization specification.

    Attributes:
        scale: The distance of two numbers, a float32.
        zero_point: The integer that stands for 0, from -2^(bits-1) to 2^(bits-1) - 1.
        bits: 2 to 16.
        narrow: Whether the lowest integer stays unused.
    """

    scale: float
    zero_point: int
    bits: int
    narrow: bool = False

    @classmethod
    def of_range(cls, minimum: float, maximum: float, bits: int = 8, narrow: bool = False) -> Grid:
        """Return the grid that fake-quantization with a range rounds to: the range is moved so that 0 lies on it.

        Args:
            minimum: Lower end, at most 0.
            maximum: Upper end, at least 0.
            bits: 2 to 16.
            narrow: Whether the lowest integer stays unused.

        Example:

        >>> Grid.of_range(0.0, 255.0)
        Grid(scale=1.0, zero_point=-128, bits=8, narrow=False)
        """
        _, _, scale, zero_point = nudge(minimum, maximum, bits, narrow)
        return cls(float(scale), int(zero_point) - 2 ** (bits - 1), bits, narrow)

    @classmethod
    def of_values(cls, values: np.ndarray, bits: int, symmetric: bool) -> Grid:
        """Return the grid whose range is that of constant values and 0.

        >>> Grid.of_values(np.array([127.5]), 8, symmetric=False)
        Grid(scale=0.5, zero_point=-128, bits=8, narrow=False)
        """
        low, high = min(float(np.min(values)), 0.0), max(float(np.max(values)), 0.0)
        most = 2 ** (bits - 1) - 1
        if low == high:
            return cls(1.0, 0, bits)
        if symmetric:
            return cls(float(np.float32(max(-low, high) / most)), 0, bits)
        scale = float(np.float32((high - low) / (2**bits - 1)))
        return cls(scale, round(-(2 ** (bits - 1)) - low / scale), bits)

    @property
    def lowest(self) -> int:
        """The least integer that is used."""
        return -(2 ** (self.bits - 1)) + int(self.narrow)

    @property
    def highest(self) -> int:
        """The largest integer."""
        return int(2 ** (self.bits - 1) - 1)

    @property
    def minimum(self) -> np.float32:
        """The least number, in float32 as TensorFlow computes it."""
        return np.float32(np.float32(self.lowest - self.zero_point) * np.float32(self.scale))

    @property
    def maximum(self) -> np.float32:
        """The largest number."""
        return np.float32(np.float32(self.highest - self.zero_point) * np.float32(self.scale))

    def brief(self) -> str:
        """Return its bits and ends as text.

        >>> Grid(0.5, -128, 8).brief()
        'int8 0..128'
        """
        return f"int{self.bits} {self.minimum:.3g}..{self.maximum:.3g}"

    @property
    def type(self) -> str:
        """The type of the integers in TFLite's schema, "INT8" or "INT16"."""
        return "INT8" if self.bits <= 8 else "INT16"

    @property
    def unsigned_zero_point(self) -> Any:
        """The zero point where integers are stored unsigned: a NumPy uint8 up to 8 bits, else a uint16."""
        return (np.uint8 if self.bits <= 8 else np.uint16)(self.zero_point + 2 ** (self.bits - 1))

    def quantize(self, values: np.ndarray) -> np.ndarray:
        """Return the integers of values, rounded as the runtimes do: halves to even.

        >>> Grid(0.5, -128, 8).quantize(np.array([-1.0, 0.25, 0.75, 3.0, 1e9], "float32"))
        array([-128, -128, -126, -122,  127], dtype=int8)
        """
        found = np.rint(np.asarray(values, np.float64) / self.scale) + self.zero_point
        return np.clip(found, self.lowest, self.highest).astype(np.int8 if self.bits <= 8 else np.int16)

    def close(self, other: Grid) -> bool:
        """Return whether two grids differ by no more than the rounding of their scale."""
        same = (self.zero_point, self.bits) == (other.zero_point, other.bits)
        return same and abs(self.scale - other.scale) <= 1e-6 * self.scale
