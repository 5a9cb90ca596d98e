"""Weights of two or three values: a sign, or a sign and zero, times one number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

THRESHOLD = np.float32(0.7)
"""Times mean |w|: what is smaller becomes 0 in a ternary weight (Li and Liu 2016, arXiv:1605.04711, equation 6)."""


def few_values(xp: Any, x: Any, others: Sequence[int], binary: bool) -> tuple[Any, Any]:
    """Return the signs (-1, 0 or 1, float32) of weights and the scale of each channel, with numpy or keras.ops.

    Binary: the sign of each weight times mean |w|, which has the least squared error (Rastegari et al. 2016,
    arXiv:1603.05279, section 3.1). Ternary: those above a threshold times the mean of their |w| (arXiv:1605.04711).
    Zeros, as masks make them, stay zero and count for nothing.

    Args:
        xp: numpy or keras.ops.
        x: float32.
        others: The axes along which the scale is the same.
        binary: Whether all weights but zeros have the scale's size.

    Example:

    >>> signs, scale = few_values(np, np.float32([-3.0, 1.0, 0.25, 0.0]), (0,), binary=False)
    >>> signs.tolist(), scale.tolist()
    ([-1.0, 1.0, 0.0, 0.0], [2.0])
    """
    size = xp.abs(x)
    kept = xp.where(x != 0, np.float32(1), np.float32(0))
    scale = _mean(xp, size, kept, others)
    if not binary:
        kept = xp.where(size > THRESHOLD * scale, np.float32(1), np.float32(0))
        scale = _mean(xp, size, kept, others)
    return xp.sign(x) * kept, scale


def _mean(xp: Any, size: Any, kept: Any, others: Sequence[int]) -> Any:
    count = xp.maximum(xp.sum(kept, axis=tuple(others), keepdims=True), np.float32(1))
    return xp.sum(size * kept, axis=tuple(others), keepdims=True) / count
