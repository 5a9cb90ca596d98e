"""The windows of average poolings: which a depthwise convolution computes, and what is in each."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from tfcompress.layers.names import name_of

Tensor = Any

STRIDED = ("averagepooling1d", "averagepooling2d")
ADAPTIVE = ("adaptiveaveragepooling1d", "adaptiveaveragepooling2d")


def depthwise_window(layer: Any, shape: Sequence[int | None]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return the window and strides, in pixels, of an average pooling that is a depthwise convolution in TFLite files.

    `None` for anything else: where windows are padded, or differ, or have other strides along each axis.

    Args:
        layer: Of any kind.
        shape: Of its input.
    """
    name = name_of(layer)
    sizes: tuple[Any, ...] = tuple(shape[1:-1])
    if name in STRIDED and layer.padding == "valid":
        window, strides = tuple(layer.pool_size), tuple(layer.strides or layer.pool_size)
    elif name in ADAPTIVE and all(
        size is not None and size % made == 0 for size, made in zip(sizes, _sizes(layer, sizes), strict=True)
    ):
        window = strides = tuple(size // made for size, made in zip(sizes, _sizes(layer, sizes), strict=True))
    else:
        return None
    if len(window) == 1:
        window, strides = (1, *window), (*strides, *strides)
    return (window, strides) if len(set(strides)) == 1 else None


def has_one_grid(layer: Any, shape: Sequence[int | None]) -> bool:
    """Return whether TFLite has a pooling with one grid for its input and output for what a layer computes."""
    return name_of(layer) in STRIDED and depthwise_window(layer, shape) is None


def _sizes(layer: Any, sizes: Sequence[Any]) -> tuple[int, ...]:
    size = layer.output_size
    return (size,) * len(sizes) if isinstance(size, int) else tuple(size)


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows along axes of a tensor, channels last.

    Attributes:
        spans: {axis: the first place of each window, and that behind its last}.
    """

    spans: dict[int, tuple[tuple[int, int], ...]]

    @classmethod
    def of(cls, layer: Any, shape: Sequence[int]) -> Windows:
        """Return those of an average pooling on an input of a shape."""
        if name_of(layer) in ADAPTIVE:
            made = zip(shape[1:-1], _sizes(layer, shape[1:-1]), strict=True)
            return cls({axis: _shared_out(*both) for axis, both in enumerate(made, 1)})
        strides = layer.strides or layer.pool_size
        each = zip(shape[1:-1], layer.pool_size, strides, strict=True)
        return cls({axis: _slid(*one, layer.padding == "same") for axis, one in enumerate(each, 1)})

    def along(self, axis: int) -> Windows:
        """Return those along one axis."""
        return Windows({axis: self.spans[axis]})

    def counts(self, rank: int) -> np.ndarray:
        """Return how many values are in each window, float32, to divide sums of so many dimensions by."""
        found = np.ones((1,) * rank, np.float32)
        for axis, spans in self.spans.items():
            lengths = np.array([last - first for first, last in spans], np.float32)
            found = found * lengths.reshape([-1 if at == axis else 1 for at in range(rank)])
        return found

    def sums(self, x: Tensor) -> Tensor:
        """Return the sums of the values in each window, added as loops over rows and then columns add them."""
        longest = [max(last - first for first, last in spans) for spans in self.spans.values()]
        total = None
        for steps in itertools.product(*map(range, longest)):
            part = x
            for step, (axis, spans) in zip(steps, self.spans.items(), strict=True):
                part = _taken(part, axis, [(first + step, first + step < last) for first, last in spans])
            total = part if total is None else total + part
        return total

    def sums_of_whole(self, x: Tensor) -> Tensor:
        """Return the sums of the whole numbers in each window, float32: differences of sums from the beginning on."""
        total = ops.cast(x, "int32")
        for axis, spans in self.spans.items():
            nothing = [(1, 0) if at == axis else (0, 0) for at in range(len(x.shape))]
            before = ops.pad(ops.cumsum(total, axis=axis), nothing)
            first, behind = (np.array(ends, np.int32) for ends in zip(*spans, strict=True))
            total = ops.take(before, behind, axis=axis) - ops.take(before, first, axis=axis)
        return ops.cast(total, "float32")

    @property
    def most(self) -> int:
        """How many places the largest window has."""
        return math.prod(max(last - first for first, last in spans) for spans in self.spans.values())


def _taken(x: Tensor, axis: int, places: list[tuple[int, bool]]) -> Tensor:
    """Return what is at places along an axis; 0 where there is nothing."""
    part = ops.take(x, np.array([place if isthere else 0 for place, isthere in places]), axis=axis)
    if all(isthere for _, isthere in places):
        return part
    shape = [-1 if at == axis else 1 for at in range(len(x.shape))]
    return part * np.array([isthere for _, isthere in places], np.float32).reshape(shape)


def _slid(size: int, window: int, stride: int, padded: bool) -> tuple[tuple[int, int], ...]:
    count = math.ceil(size / stride) if padded else (size - window) // stride + 1
    before = max((count - 1) * stride + window - size, 0) // 2 if padded else 0
    starts = (place * stride - before for place in range(count))
    return tuple((max(start, 0), min(start + window, size)) for start in starts)


def _shared_out(size: int, count: int) -> tuple[tuple[int, int], ...]:
    return tuple((place * size // count, -(-(place + 1) * size // count)) for place in range(count))
