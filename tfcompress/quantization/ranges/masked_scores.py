"""Scores of which a softmax makes nothing: a mask of -1e9 puts them far below the others of their row.

With one scale for both, all scores that count would be one integer. So the sum of scores and mask stays float, and the
range in front of the softmax begins where it makes 0 of what is below.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

FAR = 4.0
"""Times the depth at which a softmax makes 0 of a score: what is further down is masked, and no mere small score."""

MASKED = -1000.0
"""A row without a larger score is masked as a whole: nothing reads its result."""


def unmasked(scores: Any, bits: int) -> Any:
    """Return scores of a softmax along the last axis, those that are masked moved up to where it still makes 0 of them.

    >>> import numpy as np
    >>> scores = ops.convert_to_tensor([[1.0, 0.5, -1e9], [-1e9, -1e9, -1e9]])
    >>> np.round(np.float64(unmasked(scores, 8)), 2).tolist()
    [[1.0, 0.5, -6.34], [0.0, 0.0, 0.0]]
    """
    top = ops.max(scores, axis=-1, keepdims=True)
    depth = (bits + 1) * math.log(2.0) + ops.log(ops.cast(ops.shape(scores)[-1], "float32"))
    near = ops.where(scores < top - FAR * depth, top - depth, scores)
    whole = top < MASKED
    return ops.where(ops.logical_and(whole, ops.logical_not(ops.all(whole))), 0.0, near)
