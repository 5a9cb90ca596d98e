"""A weight as a file can store it."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np


class Encoding(abc.ABC):
    """A weight as a file can store it. `decode` gives, bit by bit, the float32 values that the layer computes with."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The weight's shape."""

    @abc.abstractmethod
    def decode(self) -> np.ndarray:
        """Return the values, float32."""

    @property
    @abc.abstractmethod
    def zeros(self) -> np.ndarray:
        """Where the value is exactly 0, bool, of the weight's shape."""

    @abc.abstractmethod
    def transpose(self, order: Sequence[int]) -> Encoding:
        """Return the encoding of the weight with its axes in another order."""

    @abc.abstractmethod
    def masked(self, kept: np.ndarray) -> Encoding:
        """Return the encoding of the weight with 0 where a mask, bool, is false; it broadcasts with the shape."""

    @abc.abstractmethod
    def scaled(self, factor: np.ndarray) -> Encoding:
        """Return the encoding of the weight times a factor, which broadcasts with its shape.

        A negative factor changes the signs; scales stay positive.
        """
