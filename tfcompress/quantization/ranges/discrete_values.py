"""Ranges of inputs of few discrete values, such as pixels: these fall on integers, or at least not between two.

An input of whole pixels takes a few hundred values, whatever it was scaled and shifted by. Where they lie next to the
middle of two integers, the last bit of a quotient decides what each becomes, and every one of them is off by half
the scale: so it is with pixels / 127.5 - 1 in the range -1 to 1, all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

MOST = 2048
"""Distinct values; what has more counts as continuous."""

_POINTS, _RECURRING = 8, 2
"""Discrete values are evenly spaced and that many at least, or each occurs that often, as pixels of channels do."""

_NEAR = 1e-3
"""In units of the scale: how far from the middle of two integers the last bit of a quotient can't decide."""


class DiscreteValues:
    """The distinct values of a tensor, as long as they are few."""

    def __init__(self) -> None:
        self.count = 0
        self.values: np.ndarray | None = np.zeros(0, np.float32)

    def add(self, x: Any) -> None:
        """Take in one batch."""
        flat = np.asarray(x, np.float32).ravel()
        if self.values is None or len(np.unique(flat[: 2 * MOST])) > MOST:
            self.values = None
            return
        self.count += flat.size
        values = np.union1d(self.values, flat)
        self.values = values if len(values) <= MOST else None

    def range(self, low: float, high: float, bits: int, symmetric: bool) -> tuple[float, float] | None:
        """Return a range like [low, high] on whose grid the values lie well; `None` if they aren't discrete.

        Tried are the scales of which the values' spacing is a whole multiple, and those slightly larger than the range
        asks for. The one of least squared error is taken, of those that put no value next to the middle of two
        integers.

        Args:
            low: At most 0.
            high: At least 0.
            bits: Of the integers.
            symmetric: Whether zero is the middle of the range.

        >>> pixels = DiscreteValues()
        >>> pixels.add(np.arange(200) / 255)
        >>> [round(end, 6) for end in pixels.range(0.0, 199 / 255, 8, symmetric=False)]
        [0.0, 1.0]
        """
        if self.values is None or len(self.values) < 2:
            return None
        values = self.values.astype(np.float64)
        slack = 1e-6 * (high - low)
        points = values[(values >= low - slack) & (values <= high + slack)]
        unit = spacing(values)
        if len(points) < 2 or not (
            (unit is not None and len(values) >= _POINTS) or self.count >= _RECURRING * len(values)
        ):
            return None
        if unit is not None and points[-1] - points[0] <= MOST * unit:
            points = points[0] + unit * np.arange(round((points[-1] - points[0]) / unit) + 1)
        most = 2 ** (bits - 1) - 1
        steps = 2 * most if symmetric else 2**bits - 1
        least = (2 * max(-low, high) if symmetric else high - low) / steps
        wider = 1 + np.concatenate([[0.0], 1 / np.arange(32, 513)])
        tried = least * wider
        if unit is not None and (parts := int(unit / least * (1 + 1e-6))):
            tried = np.concatenate(
                [unit / np.arange(parts, max(parts // 2, parts - 64), -1), unit / parts * wider, tried]
            )
        first, last = np.rint(min(points[0], 0.0) / tried), np.rint(max(points[-1], 0.0) / tried)
        fits = np.maximum(-first, last) <= most if symmetric else last - first <= steps
        found = np.abs(points[:, None] / tried)
        away = np.abs(found - np.rint(found))
        from_half = 0.5 - away.max(axis=0)
        near = np.maximum(_NEAR, found.max(axis=0) * 2.0**-21)
        fits &= from_half > near
        if not fits.any():
            return None
        error = np.round(np.sqrt(np.mean(np.square(away), axis=0)) * tried / least, 3)
        risky = from_half < 6 * near  # a bias, rounded to a part of a step, may decide in a file
        best = min(np.flatnonzero(fits), key=lambda place: (risky[place], error[place], tried[place]))
        scale, below, above = float(tried[best]), -int(first[best]), int(last[best])
        if symmetric:
            return -most * scale, most * scale
        spare = steps - below - above
        zero_point = below + (spare // 2 if below and above else spare if below else 0)
        return -zero_point * scale, (steps - zero_point) * scale


def spacing(values: np.ndarray) -> float | None:
    """Return the spacing of sorted, distinct float32 values, some of which may be missing; `None` if they have none.

    >>> spacing(np.float64([-0.5, 0.25, 1.75]))
    0.75
    """
    noise = 4 * float(np.finfo(np.float32).eps) * float(np.abs(values).max())
    gaps = np.diff(values)
    unit = float(gaps.min())
    for gap in np.unique(gaps):
        larger, smaller = float(gap), unit
        while smaller > 16 * noise:
            larger, smaller = smaller, abs(larger - round(larger / smaller) * smaller)
        unit = larger
        if unit <= 64 * noise:
            return None
    places = np.rint((values - values[0]) / unit)
    unit = float((values[-1] - values[0]) / places[-1])
    return unit if np.abs(values - values[0] - places * unit).max() <= noise else None
