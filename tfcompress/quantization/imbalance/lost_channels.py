"""Which channels are lost on a grid that they share with larger ones, and how that is said."""

from __future__ import annotations

import numpy as np

from tfcompress.core.names import listed
from tfcompress.graph.rewrite import Call
from tfcompress.layers.channel_axes import channels_of
from tfcompress.quantization.graph.batch_norm_folding import seen
from tfcompress.quantization.imbalance.precision_left import FEW, Spread

DIFFER = "channels of "
"""What the reason begins with for which a layer is kept float for the sake of such channels."""

AT_END = 8
"""An output is lost where rounding changes more than such a part of its deviation: it correlates by less than .99."""


def rounded_away(spread: Spread) -> np.ndarray:
    """Return which channels span few integers, and rounding changes by more than a sixteenth of their deviation."""
    return (spread.levels < spread.few) & (spread.error * FEW > spread.deviation)


def lost_behind(spread: Spread, gains: np.ndarray) -> np.ndarray:
    """Return which channels are lost, and are no less than a sixteenth of the largest, each times its gain."""
    size = gains * spread.deviation
    return rounded_away(spread) & (size > 0) & (size * FEW >= size.max())


def lost_in_sum(spread: Spread, gains: np.ndarray) -> np.ndarray:
    """Return which channels are lost, where all, each times its gain, are summed up; none if little of it shows."""
    lost = rounded_away(spread) & (spread.deviation > 0)
    noise = np.sqrt(np.sum(np.square(gains * spread.error)[lost]))
    return lost & bool(noise * FEW > np.sqrt(np.sum(np.square(gains * spread.deviation))))


def lost_at_end(spread: Spread) -> np.ndarray:
    """Return which channels are lost beside wider ones, where each counts by itself, as those of an output do.

    What all vary little around other values is no matter of size: so are the outputs of many an untrained network.
    """
    spans = spread.high - spread.low
    narrow = (spans > 0) & (spans * FEW <= spans.max(initial=0.0))
    return narrow & (spread.levels < spread.few) & (spread.error * AT_END > spread.deviation)


def gains_of(call: Call, channels: int) -> np.ndarray:
    """Return by what a kernel multiplies each channel of what it reads, as a root of the sum of squares."""
    known = channels_of(call.operation)
    if known is None or known.inputs is None or known.input_count % channels:
        return np.ones(channels)
    squares = np.square(seen(call.operation, known.inputs).astype(np.float64))
    index = np.broadcast_to(known.input_index, squares.shape) % channels  # the last axis is the fastest when flattened
    return np.sqrt(np.bincount(index.reshape(-1), squares.reshape(-1), minlength=channels))


def reason(name: str) -> str:
    """Return why a layer is kept float that reads, or makes, a tensor."""
    return f"{DIFFER}{name!r} differ too much for one scale"


def said(name: str, spread: Spread, lost: np.ndarray) -> str:
    """Say which channels of a tensor are lost, as the beginning of a remark."""
    levels = spread.levels[lost]
    return (
        f"Channels of {name!r} differ too much in size for one scale: {_which(lost)} "
        f"would hold {levels.min():.2g} to {levels.max():.2g} of its integers."
    )


def said_of_rows(name: str, kernel: str, lost: np.ndarray) -> str:
    """Say which channels of a tensor are read with weights that are rounded away, as the beginning of a remark."""
    return (
        f"Channels of {name!r} differ much in size, and so do the weights that {kernel!r} reads them with: those of "
        f"{_which(lost)} would be rounded away beside larger ones."
    )


def _which(lost: np.ndarray) -> str:
    places = np.flatnonzero(lost)
    return f"channel{'s' if len(places) > 1 else ''} {listed(places, 4)} of {len(lost)}"
