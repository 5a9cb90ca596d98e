"""Parts that are taken of a tensor's channels, each of which may be quantized by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcompress.core.passthrough import innermost
from tfcompress.graph.rewrite import Call
from tfcompress.layers.names import name_of
from tfcompress.quantization.imbalance.precision_left import FEW, Spread


def parts_of(call: Call) -> list[np.ndarray]:
    """Return which channels a call takes, an array of places for each of its outputs; none if it takes them all.

    >>> import keras
    >>> x = keras.KerasTensor((None, 6))
    >>> y = x[:, 1:3]
    >>> from tfcompress.graph.rewrite import call_of
    >>> [part.tolist() for part in parts_of(call_of(y._keras_history.operation._inbound_nodes[0]))]
    [[1, 2]]
    """
    name, shape = name_of(call.operation), call.inputs[0].shape
    if name not in ("getitem", "split") or len(shape) < 2 or shape[-1] is None or len(call.inputs) > 1:
        return []
    channels = shape[-1]
    places = np.broadcast_to(np.arange(channels), [2 if size is None else size for size in shape])
    if name == "split":
        split = innermost(call.operation)
        if split.axis not in (-1, len(shape) - 1):
            return []
        how = split.indices_or_sections
        found = np.split(np.arange(channels), how if isinstance(how, int) else list(how))
    else:
        key = call.arguments[1] if len(call.arguments) > 1 else call.keywords.get("key")
        try:
            found = [np.unique(places[_plain(key)])]
        except (IndexError, TypeError, ValueError):
            return []
    return found if any(0 < len(part) < channels for part in found) else []


def _plain(key: Any) -> Any:
    """Return a key without limits along axes whose sizes are free, where there are but two places."""
    keys = key if isinstance(key, tuple) else (key,)
    return tuple(slice(None) if isinstance(part, slice) and place == 0 else part for place, part in enumerate(keys))


def is_lost(part: np.ndarray | slice, spread: Spread) -> bool:
    """Return whether channels together span few integers, and rounding changes more than a sixteenth of them."""
    if not np.size(spread.low[part]):
        return False
    wide = (spread.high[part].max() - spread.low[part].min()) / spread.scale
    deviation, error = (np.sqrt(np.mean(np.square(x[part]))) for x in (spread.deviation, spread.error))
    return bool(0 < wide < spread.few and error * FEW > deviation > 0)
