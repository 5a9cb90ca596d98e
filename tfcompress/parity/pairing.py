"""Which input or output of a file is which of the Keras model's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tfcompress.data.named_inputs import TensorInfo


def pair(ours: Mapping[str, Any], theirs: Mapping[str, TensorInfo], what: str, path: Any) -> dict[str, str]:
    """Return {name in the model: name in the file}; a single input or output may have another name.

    Raises:
        ValueError: the names or, of inputs, the shapes are others.
    """
    if set(ours) == set(theirs):
        names = {name: name for name in ours}
    elif len(ours) == len(theirs) == 1:
        names = dict(zip(ours, theirs, strict=True))
    else:
        more = set(ours) < set(theirs)
        raise ValueError(
            f"Expected a file with the {what}s of the model, {list(ours)}. Received: {os.fspath(path)!r} with "
            f"{list(theirs)}. Give the file that was exported from this model"
            f"{', without stateful= and random=' if more else ''}."
        )
    for name, other in names.items():
        mine = ours[name].shape if what == "input" else None
        its = theirs[other].shape
        if mine is not None and (
            len(mine) != len(its)
            or any(a not in (None, b) and b is not None for a, b in zip(mine[1:], its[1:], strict=True))
        ):
            raise ValueError(
                f"Expected a file whose input {other!r} has the model's shape, {tuple(mine)}. Received: "
                f"{os.fspath(path)!r} with {tuple(its)}. Give the file that was exported from this model."
            )
    return names
