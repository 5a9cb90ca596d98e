"""How important a weight is: pure functions from a weight to scores of its shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import ops

Tensor = Any


def magnitude(weight: Tensor) -> Tensor:
    """Return |w|, float32, in the shape of `weight`: the smallest weights matter least (Han et al., 2015).

    Example:

    >>> import numpy as np
    >>> np.asarray(magnitude(np.array([-2.0, 1.0], "float32"))).tolist()
    [2.0, 1.0]
    """
    return ops.abs(ops.cast(weight, "float32"))


CRITERIA: dict[str, Callable[[Tensor], Tensor]] = {"magnitude": magnitude}
