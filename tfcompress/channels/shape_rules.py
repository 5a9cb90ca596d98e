"""Rules of what moves axes about: reshaping, transposing, concatenating, slicing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfcompress.channels.tracker import Axes, Labels, Step


def permute(step: Step) -> list[Axes]:
    """Axes in another order: Permute, transpose, swapaxes, moveaxis."""
    axes, layer = step.inputs[0], step.layer
    rank = len(axes)
    if hasattr(layer, "dims"):
        order = [0, *layer.dims]
    elif hasattr(layer, "axis1"):
        order = list(range(rank))
        order[layer.axis1], order[layer.axis2] = order[layer.axis2], order[layer.axis1]
    elif hasattr(layer, "source"):
        order = [
            int(axis) for axis in np.moveaxis(np.empty(range(rank)), layer.source, layer.destination).shape
        ]  # the sizes are the numbers of the axes
    else:
        order = list(range(rank))[::-1] if layer.axes is None else [axis % rank for axis in layer.axes]
    return [tuple(axes[axis] for axis in order)]


def expand_dims(step: Step) -> list[Axes]:
    """New axes of size one."""
    rank = len(step.call.outputs[0].shape)
    new = {int(axis) % rank for axis in np.atleast_1d(step.layer.axis)}
    left = iter(step.inputs[0])
    return [tuple(None if axis in new else next(left) for axis in range(rank))]


def squeeze(step: Step) -> list[Axes]:
    """Axes of size one taken out."""
    axes, shape = step.inputs[0], step.call.inputs[0].shape
    axis = step.layer.axis
    gone = (
        {at for at, size in enumerate(shape) if size == 1}
        if axis is None
        else {int(at) % len(axes) for at in np.atleast_1d(axis)}
    )
    for at in gone:
        step.block(axes[at], "takes the axis out")
    return [tuple(labels for at, labels in enumerate(axes) if at not in gone)]


def repeat_vector(step: Step) -> list[Axes]:
    """The same vector many times."""
    batch, labels = step.inputs[0]
    return [(batch, None, labels)]


def repeat(step: Step) -> list[Axes]:
    """Each index of an axis several times, one after the other."""
    layer, axes = step.layer, step.inputs[0]
    if layer.axis is None or np.ndim(layer.repeats):
        return unknown(step)
    along = layer.axis % len(axes)
    return [tuple(_repeated(labels, layer.repeats if at == along else 1) for at, labels in enumerate(axes))]


def _repeated(labels: Labels, times: int) -> Labels:
    return None if labels is None else np.repeat(labels, times)


def concatenate(step: Step) -> list[Axes]:
    """One axis made of those of several tensors; all others are the same in all of them."""
    rank = len(step.inputs[0])
    along = step.layer.axis % rank
    found: list[Labels] = []
    for axis in range(rank):
        parts = [axes[axis] for axes in step.inputs]
        tracked = next((labels for labels in parts if labels is not None), None)
        if tracked is None:
            found.append(None)
        elif axis == along:
            sizes = [x.shape[axis] for x in step.call.inputs]
            found.append(np.concatenate([_or_none(labels, size) for labels, size in zip(parts, sizes, strict=True)]))
        else:
            for labels in parts:
                if labels is not tracked:
                    step.link(tracked, labels)
            found.append(tracked)
    return [tuple(found)]


def _or_none(labels: Labels, size: int) -> np.ndarray:
    return np.full(size, -1) if labels is None else labels


def get_item(step: Step) -> list[Axes]:
    """A part of some axes: `x[:, 0]`, `x[..., None]`."""
    axes = step.inputs[0]
    key = step.call.arguments[1]
    keys = list(key) if isinstance(key, list | tuple) else [key]
    known = all(k is None or k is Ellipsis or isinstance(k, slice | int | np.integer) for k in keys)
    if not known or any(isinstance(k, bool) for k in keys):
        return unknown(step)
    rest = len(axes) - sum(k is not None and k is not Ellipsis for k in keys)
    at = keys.index(Ellipsis) if Ellipsis in keys else len(keys)
    keys[at : at + 1] = [slice(None)] * rest
    left = iter(axes)
    found: list[Labels] = []
    for k in keys:
        labels = None if k is None else next(left)
        if k is not None and k != slice(None):
            step.block(labels, "takes a part of it")
            labels = None
        if k is None or isinstance(k, slice):
            found.append(labels)
    return [tuple(found)]


def split(step: Step) -> list[Axes]:
    """Several parts of one axis."""
    axes = step.inputs[0]
    along = step.layer.axis % len(axes)
    step.block(axes[along], "splits it")
    return [tuple(None if at == along else labels for at, labels in enumerate(axes)) for _ in step.call.outputs]


def unknown(step: Step) -> list[Axes]:
    """What isn't known to keep channels apart."""
    for axes in step.inputs:
        for labels in axes:
            step.block(labels, "is not known to keep channels apart")
    return [(None,) * len(x.shape) for x in step.call.outputs]


def flatten(step: Step) -> list[Axes]:
    """All axes but the batch made one, channels last."""
    axes, shape = step.inputs[0], step.call.inputs[0].shape
    if getattr(step.layer, "data_format", None) == "channels_first" and len(axes) > 2:
        axes, shape = ((x[0], *x[2:], x[1]) for x in (axes, shape))
    return [regrouped(step, tuple(axes), tuple(shape), step.call.outputs[0].shape)]


def reshape(step: Step) -> list[Axes]:
    """Axes merged and split."""
    return [regrouped(step, step.inputs[0], step.call.inputs[0].shape, step.call.outputs[0].shape)]


def steps(step: Step) -> list[Axes]:
    """Steps made samples, or samples steps: the axes behind them stay as they are."""
    axes, output = step.inputs[0], step.call.outputs[0]
    if len(output.shape) > len(axes):
        return [(axes[0], None, *axes[1:])]
    step.block(axes[1], "makes samples of it")
    return [(axes[0], *axes[2:])]


def regrouped(step: Step, axes: Axes, shape: Any, output: Any) -> Axes:
    """Return the labels of a tensor's axes after it was reshaped.

    Merged axes are followed if one of them has channels: each channel then has many indices. A split axis keeps its
    channels on one of the new axes, and what the others hold becomes one with them: on the last, for a vector that
    becomes an image, or on the first, as where heads are split off.
    """
    found: list[Labels] = [None] * len(output)
    aligned = _alignment(list(shape), list(output))
    if aligned is None:
        for labels in axes:
            step.block(labels, "mixes it with other axes")
        return tuple(found)
    for old, new in aligned:
        tracked = [axis for axis in old if axes[axis] is not None]
        if not tracked:
            continue
        for axis in tracked[1:]:
            step.block(axes[axis], "mixes it with other axes")
        sizes = [shape[axis] for axis in old]
        place = old.index(tracked[0])
        spread = np.reshape(np.asarray(axes[tracked[0]]), [-1 if at == place else 1 for at in range(len(old))])
        labels = np.broadcast_to(spread, sizes).ravel()
        if not new:
            step.block(labels, "mixes it with other axes")
            continue
        grid = labels.reshape([output[axis] for axis in new])
        kept = _kept(grid, last=len(shape) == 2)
        moved = np.moveaxis(grid, kept, 0).reshape(grid.shape[kept], -1)
        for column in moved.T[1:]:
            if not np.array_equal(column, moved[:, 0]):
                step.link(column, moved[:, 0])
        found[new[kept]] = moved[:, 0]
    return tuple(found)


def _kept(grid: np.ndarray, last: bool) -> int:
    """Return the axis along which channels differ, or of several the last or the first."""
    varying = [axis for axis in range(grid.ndim) if not np.all(grid == np.take(grid, [0], axis))]
    long = [axis for axis in range(grid.ndim) if grid.shape[axis] > 1]
    candidates = varying or long or [0]
    return candidates[-1 if last else 0]


def _alignment(old: list[int | None], new: list[int | None]) -> list[tuple[list[int], list[int]]] | None:
    """Return which axes of the old shape become which of the new one; `None` if that can't be said.

    Axes of size one that have no partner stand with an empty list, and so do those that come in.

    >>> _alignment([None, 7, 7, 8], [None, 392])
    [([0], [0]), ([1, 2, 3], [1])]
    """
    if old[:1] != new[:1]:
        return None
    pairs: list[tuple[list[int], list[int]]] = [([0], [0])]
    i = j = 1
    while i < len(old) or j < len(new):
        left, right = [*range(i, min(i + 1, len(old)))], [*range(j, min(j + 1, len(new)))]
        if left and right and old[i] is None and new[j] is None:
            pairs.append((left, right))
            i, j = i + 1, j + 1
            continue
        if left and old[i] == 1 and not (right and new[j] == 1):
            pairs.append((left, []))
            i += 1
            continue
        if right and new[j] == 1 and not (left and old[i] == 1):
            j += 1
            continue
        if not left or not right:
            return None
        while True:
            sizes = [old[axis] for axis in left], [new[axis] for axis in right]
            if None in sizes[0] or None in sizes[1]:
                return None
            products = math.prod(sizes[0]), math.prod(sizes[1])
            if products[0] == products[1]:
                break
            if products[0] < products[1]:
                left.append(left[-1] + 1)
            else:
                right.append(right[-1] + 1)
            if left[-1] >= len(old) or right[-1] >= len(new):
                return None
        pairs.append((left, right))
        i, j = left[-1] + 1, right[-1] + 1
    return pairs
