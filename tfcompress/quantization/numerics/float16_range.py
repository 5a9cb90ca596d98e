"""What float16 can hold."""

from collections.abc import Iterable

import numpy as np

LARGEST = float(np.finfo(np.float16).max)
"""65504, the largest finite float16."""


def check_half(
    tensors: Iterable[tuple[str, np.ndarray]],
    advice: str = "Export with precision='float32', or scale that layer.",
) -> None:
    """Refuse weights that float16 can't hold.

    Args:
        tensors: (name, float32 array of any shape).
        advice: what to do, for the message.

    Raises:
        ValueError: a finite value lies beyond 65504; the message names the tensor.

    >>> import numpy as np
    >>> check_half([("kernel", np.array([1e5], "float32"))])
    Traceback (most recent call last):
    ValueError: Expected weights within +-65504, the largest float16. Received: 100000.0 in 'kernel'. ...
    """
    for name, values in tensors:
        finite = values[np.isfinite(values)]
        largest = np.abs(finite).max(initial=0.0)
        if largest > LARGEST:
            raise ValueError(
                f"Expected weights within +-{LARGEST:.0f}, the largest float16. Received: {float(largest)} "
                f"in {name!r}. {advice}"
            )
