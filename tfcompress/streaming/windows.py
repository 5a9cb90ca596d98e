"""What layers read of time: windows of frames, all of them, or each frame by itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from tfcompress.core.passthrough import Inserted, innermost
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.einsum_equations import equation_of
from tfcompress.layers.names import base_name_of, name_of

TIME = 1
"""The axis of frames."""

BY_FRAME = ("unary", "nary", "rescaling", "embedding")
"""Rules of channels whose layers look at each frame by itself, along whatever axis channels are."""

POOLING = ("maxpooling1d", "maxpooling2d", "averagepooling1d", "averagepooling2d")


@dataclasses.dataclass(frozen=True)
class Window:
    """What a layer reads along time for one frame that it makes.

    Attributes:
        extent: frames from the first to the last that it reads.
        stride: frames from window to window.
        before: zeros that it puts before the first frame.
        behind: zeros that it puts behind the last.
    """

    extent: int
    stride: int
    before: int = 0
    behind: int = 0


def window_of(operation: Any, length: int | None) -> Window | None:
    """Return what a convolution or pooling reads along time; `None` for any other layer.

    Args:
        operation: a layer or an operation of a graph.
        length: frames that it reads in the whole model; `None`: any number.

    Raises:
        ValueError: its axis of time isn't the first behind the batch.
    """
    kind = traits_of(operation).channels
    layer = innermost(operation)
    if kind in ("convolution", "depthwise", "separable") and not isinstance(layer, keras.layers.Layer):
        return None
    if kind in ("convolution", "depthwise", "separable"):
        size, stride = layer.kernel_size[0], layer.strides[0]
        extent = (size - 1) * layer.dilation_rate[0] + 1
    elif name_of(operation) in POOLING and isinstance(layer, keras.layers.Layer):
        extent, stride = _first(layer.pool_size), _first(layer.strides)
    else:
        return None
    if layer.data_format != "channels_last":
        raise ValueError(
            f"Expected layers with data_format='channels_last', whose frames are behind the batch. Received: layer "
            f"{layer.name!r} with {layer.data_format!r}."
        )
    if layer.padding == "valid":
        return Window(extent, stride)
    if layer.padding == "causal":
        return Window(extent, stride, before=extent - 1)
    rest = (length or 0) % stride or stride
    total = max(extent - rest, 0)
    return Window(extent, stride, before=total // 2, behind=total - total // 2)


def _first(size: Any) -> int:
    return int(size if isinstance(size, int) else size[0])


def zeros_of(operation: Any) -> tuple[int, int] | None:
    """Return how many zeros a padding layer puts before and behind the frames; `None` for any other layer."""
    layer = innermost(operation)
    if name_of(operation) not in ("zeropadding1d", "zeropadding2d"):
        return None
    padding = layer.padding
    before, behind = padding if isinstance(padding[0], int) else padding[0]
    return int(before), int(behind)


def cropping_of(operation: Any) -> tuple[int, int] | None:
    """Return how many frames a cropping layer takes away before and behind; `None` for any other layer."""
    if name_of(operation) not in ("cropping1d", "cropping2d"):
        return None
    cropping = innermost(operation).cropping
    before, behind = cropping if isinstance(cropping[0], int) else cropping[0]
    return int(before), int(behind)


def by_frame(operation: Any, rank: int) -> bool:
    """Return whether a layer makes each frame of the same frame of what it reads.

    Args:
        operation: a layer or operation of a graph.
        rank: dimensions of what it reads.
    """
    if isinstance(operation, Inserted):
        return True
    rule, layer = traits_of(operation).channels, innermost(operation)
    if name_of(operation) == "softmax":
        rule = "normalizes"
    axes = _axes(operation, rule, rank)
    if rule == "dense" or base_name_of(operation) == "dense":
        return rank > 2
    if rule == "einsum_dense":
        letters = equation_of(layer, rank)
        return letters is not None and letters.output[TIME : TIME + 1] == letters.inputs[TIME]
    if rule == "prelu":
        return TIME in (layer.shared_axes or ())
    return rule in BY_FRAME or bool(axes and not {0, TIME} & axes)


def _axes(operation: Any, rule: str, rank: int) -> set[int]:
    """Return the axes along which a layer looks at several values together, or channels are; none if it has none."""
    if rule not in ("batch_normalization", "normalization", "normalizes", "concatenate"):
        return set()
    axes = getattr(innermost(operation), "axis", -1)
    return {axis % rank for axis in (axes if isinstance(axes, list | tuple) else [axes]) if axis is not None}
