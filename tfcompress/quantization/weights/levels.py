"""Codebooks whose values are a scale times fixed levels: uniform, powers of two, sums of powers of two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.transform import put
from tfcompress.quantization.weights.codebook import Codebook
from tfcompress.quantization.weights.kmeans import grouped

Tensor = Any

POINTS = 1 << 14
"""Means of sorted values that a scale is found for."""

RATIOS = np.linspace(1.0, 0.1, 91)
"""Of a scale to the largest |w|, that are tried."""


def uniform(count: int) -> np.ndarray:
    """Return `count` equally spaced levels around 0, the largest 1.

    >>> uniform(5).tolist()
    [-1.0, -0.5, 0.0, 0.5, 1.0]
    """
    return np.linspace(-1.0, 1.0, count)


def power_of_two(count: int) -> np.ndarray:
    """Return 0 and powers of two with both signs: a product is a shift (Zhou et al. 2017, arXiv:1702.03044).

    >>> power_of_two(7).tolist()
    [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0]
    """
    return _with_signs(2.0 ** -np.arange(count // 2))


def additive_power_of_two(count: int) -> np.ndarray:
    """Return 0 and sums of powers of two with both signs (Li et al. 2020, arXiv:1909.13144): denser towards the ends.

    The bits of a magnitude are those of several terms of two bits each, of one the last where they are odd. A term
    is 0 or one of the powers of two that are as many octaves apart as there are terms.

    >>> (additive_power_of_two(15)[7:] * 1.5).tolist()
    [0.0, 0.0625, 0.25, 0.5, 0.5625, 0.75, 1.0, 1.5]
    """
    bits = count.bit_length() - 1
    terms = (bits + 1) // 2
    sums = np.zeros(1)
    for term in range(terms):
        octaves = [term + terms * place for place in range(3 if 2 * term + 1 < bits else 1)]
        sums = np.add.outer(sums, np.array([0.0, *(2.0**-octave for octave in octaves)])).reshape(-1)
    sums = np.sort(sums)[1:]
    return _with_signs(sums / sums.max())


LEVELS: dict[str, Callable[[int], np.ndarray]] = {
    "uniform": uniform,
    "power_of_two": power_of_two,
    "additive_power_of_two": additive_power_of_two,
}
"""By name: from an odd number of values to levels in ascending order, the largest 1."""


def _with_signs(sizes: np.ndarray) -> np.ndarray:
    return np.sort(np.concatenate([-sizes, [0.0], sizes]))


def scale_of(values: np.ndarray, levels: np.ndarray) -> float:
    """Return the scale of levels that gives the least squared error; 0 of nothing but zeros.

    Args:
        values: Any shape.
        levels: Ascending, the largest 1.

    Example:

    >>> round(scale_of(np.array([-3.0, 3.0, 0.1, 3.0]), uniform(3)), 2)
    3.0
    """
    points = grouped(np.sort(values, axis=None), POINTS)
    largest = float(np.abs(points).max())
    if not largest:
        return 0.0
    edges = (levels[1:] + levels[:-1]) / 2
    scales = largest * RATIOS
    errors = [float(np.square(points - levels[np.searchsorted(edges, points / one)] * one).sum()) for one in scales]
    return float(scales[int(np.argmin(errors))])


@keras.saving.register_keras_serializable(package="tfcompress")
class ScaledLevels(Codebook):
    """A table of fixed levels times a scale, which is trained.

    Args:
        count: Entries of a table, odd, 3 to 255; at most so many values are used.
        levels: One of `LEVELS`.
        axis: The axis of the weight along which scales differ; `None`: there is one scale.
        tables: How many scales there are along it.
        gradient: One of `GRADIENTS`.
    """

    def __init__(self, count: int, levels: str, **how: Any):
        super().__init__(count, **how)
        self.levels = levels

    def build(self, weight: keras.Variable, add_state: Callable[..., keras.Variable]) -> None:
        """Create the scales."""
        super().build(weight, add_state)
        self.scale = add_state("scale", (self.tables, 1), "float32", "ones", trainable=True)

    def start(self, values: np.ndarray) -> None:
        """Set the scales."""
        put(self.scale, values)

    def table(self) -> Tensor:
        """Return the levels, each times its scale."""
        return ops.convert_to_tensor(self.scale.value) * LEVELS[self.levels](self.count).astype(np.float32)[None]

    def brief(self) -> str:
        """Return how many levels there are, and which.

        >>> ScaledLevels(15, "power_of_two").brief()
        '15 power of two levels'
        """
        return f"{self.count} {self.levels.replace('_', ' ')} levels{self._where()}"

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "levels": self.levels}
