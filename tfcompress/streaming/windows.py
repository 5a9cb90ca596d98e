"""What layers read of time: windows of frames, all of them, or each frame by itself."""

from __future__ import annotations

import dataclasses
import math
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
        beside: zeros that it puts before and behind the second axis behind the batch.
        same: whether the zeros along time depend on the number of frames, by `padding="same"`.
    """

    extent: int
    stride: int
    before: int = 0
    behind: int = 0
    beside: tuple[int, int] = (0, 0)
    same: bool = False


def window_of(operation: Any, shape: tuple[int | None, ...]) -> Window | None:
    """Return what a convolution or pooling reads along time; `None` for any other layer.

    Args:
        operation: a layer or an operation of a graph.
        shape: of what it reads in the whole model, with the batch; `None`: any number.

    Raises:
        ValueError: its axis of time isn't the first behind the batch.
    """
    kind = traits_of(operation).channels
    layer = innermost(operation)
    if kind in ("convolution", "depthwise", "separable") and not isinstance(layer, keras.layers.Layer):
        return None
    if kind in ("convolution", "depthwise", "separable"):
        sizes, strides, dilations = layer.kernel_size, layer.strides, layer.dilation_rate
    elif name_of(operation) in POOLING and isinstance(layer, keras.layers.Layer):
        sizes, strides, dilations = _sizes(layer.pool_size), _sizes(layer.strides), (1, 1)
    else:
        return None
    if layer.data_format != "channels_last":
        raise ValueError(
            f"Expected layers with data_format='channels_last', whose frames are behind the batch. Received: layer "
            f"{layer.name!r} with {layer.data_format!r}."
        )
    extent, stride = (sizes[0] - 1) * dilations[0] + 1, strides[0]
    if layer.padding == "valid":
        return Window(extent, stride)
    if layer.padding == "causal":
        return Window(extent, stride, before=extent - 1)
    beside = (0, 0)
    if len(sizes) > 1:
        if shape[TIME + 1] is None and strides[1] > 1:
            raise ValueError(
                f"Expected a fixed size along the axis behind the frames. Received: layer {layer.name!r}, padded "
                f"'same' with stride {strides[1]} there, for inputs of shape {shape}."
            )
        beside = _zeros_of_same((sizes[1] - 1) * dilations[1] + 1, strides[1], shape[TIME + 1])
    return Window(extent, stride, *_zeros_of_same(extent, stride, shape[TIME]), beside, same=True)


def _zeros_of_same(extent: int, stride: int, length: int | None) -> tuple[int, int]:
    """Return the zeros of "same" before and behind; of any number of frames, those of a multiple of the stride."""
    rest = (length or 0) % stride or stride
    total = max(extent - rest, 0)
    return total // 2, total - total // 2


def _sizes(size: Any) -> tuple[int, ...]:
    return (int(size),) if isinstance(size, int) else tuple(map(int, size))


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


def keeps_frames(shape: tuple[int | None, ...], made: tuple[int | None, ...]) -> bool:
    """Return whether a reshape from one shape to another, both with the batch, leaves each frame its own.

    >>> keeps_frames((None, None, 8, 1), (None, None, 4)), keeps_frames((None, None, 8, 1), (None, None, 8))
    (False, True)
    """
    rest, others = shape[TIME + 1 :], made[TIME + 1 :]
    known = None not in rest and None not in others
    return known and shape[: TIME + 1] == made[: TIME + 1] and math.prod(rest) == math.prod(others)  # type: ignore[arg-type]


def has_time(constant: Any, rank: int) -> bool:
    """Return whether a constant that is joined with a tensor of so many dimensions has several values along time."""
    shape = tuple(getattr(constant, "shape", ()))
    return len(shape) >= rank - TIME and shape[TIME - rank] != 1


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
