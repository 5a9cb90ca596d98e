"""Bookkeeping of the dependency analysis: which channel of which tensor or weight goes along with which other."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from tfcompress.core.passthrough import innermost
from tfcompress.graph.rewrite import Call

Labels = np.ndarray | None
"""One number for each index of an axis: the channel there, -1 for none; `None` for an axis without channels."""

Axes = tuple[Labels, ...]
"""The labels of all axes of one tensor."""


@dataclasses.dataclass(eq=False)
class Site:
    """One axis of one weight: its channels' numbers, and what the axis is to them ("producer", ...)."""

    layer: str
    position: int
    axis: int
    role: str
    labels: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Read:
    """One call of a layer whose kernel sums over an axis of what it is called with.

    Attributes:
        call: The call.
        tensor: The symbolic tensor that is read, and `axis` its axis.
        axis: Which axis of it is summed over.
        site: The axis of the kernel that goes with it, and maybe `repeats` times as long.
        repeats: How often each channel of the tensor comes in the kernel, one after the other.
    """

    call: Call
    tensor: Any
    axis: int
    site: Site
    repeats: int = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """A product of two tensors that sums over an axis of each, as attention does."""

    call: Call
    tensors: tuple[Any, Any]
    axes: tuple[int, int]


class Tracker:
    """Gives numbers to channels, and records which are one and which can't be removed."""

    def __init__(self) -> None:
        self.count = 0
        self.sites: dict[tuple[str, int, int], Site] = {}
        self.reads: list[Read] = []
        self.products: list[Product] = []
        self.links: list[tuple[np.ndarray, np.ndarray]] = []
        self.blocks: list[tuple[np.ndarray, str]] = []
        self.kinds: list[tuple[np.ndarray, str]] = []

    def fresh(self, size: int) -> np.ndarray:
        """Return the numbers of `size` new channels."""
        self.count += size
        return np.arange(self.count - size, self.count)

    def block(self, labels: Labels, reason: str) -> None:
        """Remember why channels can't be removed."""
        if labels is not None and np.any(labels >= 0):
            self.blocks.append((labels[labels >= 0], reason))

    def link(self, first: Labels, second: Labels, reason: str) -> None:
        """Remember that two axes have the same channels; where only one has any, these can't be removed."""
        if first is None or second is None or len(first) != len(second):
            self.block(first, reason)
            self.block(second, reason)
            return
        both = (first >= 0) & (second >= 0)
        self.block(first[~both], reason)
        self.block(second[~both], reason)
        if np.any(both):
            self.links.append((first[both], second[both]))

    def mark(self, labels: Labels, kind: str) -> None:
        """Remember what kind of channels these are."""
        if labels is not None:
            self.kinds.append((labels[labels >= 0], kind))

    def site(self, operation: Any, variable: keras.Variable, axis: int, role: str) -> Site:
        """Return the site of one axis of a layer's weight; all calls of the layer have the same."""
        inner = innermost(operation)
        position = next(at for at, weight in enumerate(inner.weights) if weight is variable)
        axis %= len(variable.shape)
        key = (operation.name, position, axis)
        if key not in self.sites:
            self.sites[key] = Site(*key, role, self.fresh(variable.shape[axis]))
        return self.sites[key]

    def components(self) -> np.ndarray:
        """Return, for each channel's number, that of all channels that have to be removed with it."""
        found = np.arange(self.count)
        if not self.links:
            return found
        first, second = (np.concatenate(part) for part in zip(*self.links, strict=True))
        while True:  # the least number goes along the links, and along what it has reached already
            least = np.minimum(found[first], found[second])
            new = found.copy()
            np.minimum.at(new, found[first], least)
            np.minimum.at(new, found[second], least)
            new = new[new]
            if np.array_equal(new, found):
                return found
            found = new


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One call on the way through a graph, as the rules of the analysis see it.

    Attributes:
        tracker: Where channels are booked.
        call: The call.
        inputs: The labels of the axes of each of its tensors, in the order of `call.inputs`.
    """

    tracker: Tracker
    call: Call
    inputs: tuple[Axes, ...]

    @property
    def layer(self) -> Any:
        """The layer or operation, without the wrappers of this package."""
        return innermost(self.call.operation)

    @property
    def says(self) -> str:
        """How a reason begins that names the layer or operation."""
        kind = "layer" if isinstance(self.layer, keras.layers.Layer) else "operation"
        return f"{kind} {self.call.operation.name!r} of class {type(self.layer).__name__}"

    def block(self, labels: Labels, reason: str) -> None:
        """Remember that this call is why channels can't be removed."""
        self.tracker.block(labels, f"{self.says} {reason}")

    def link(self, first: Labels, second: Labels) -> None:
        """Remember that two axes have the same channels."""
        self.tracker.link(
            first, second, f"{self.says} combines it with an input of the model, or with what has no channels to remove"
        )

    def block_others(self, axes: Axes, kept: int, reason: str) -> None:
        """Remember that all axes but one can't lose channels."""
        for axis, labels in enumerate(axes):
            if axis != kept % len(axes):
                self.block(labels, reason)

    def site(self, variable: keras.Variable, axis: int, role: str) -> Site:
        """Return the site of one axis of a weight of the layer."""
        return self.tracker.site(self.call.operation, variable, axis, role)

    def follow(self, variable: keras.Variable | None, axis: int, labels: Labels) -> None:
        """Remember that an axis of a weight goes along with channels."""
        if variable is not None:
            self.link(self.site(variable, axis, "follower").labels, labels)

    def read(self, variable: keras.Variable, weight_axis: int, axis: int, repeats: int = 1) -> None:
        """Remember that a kernel sums over an axis of the first tensor."""
        site = self.site(variable, weight_axis, "consumer")
        labels = self.inputs[0][axis]
        self.link(site.labels, labels if labels is None else np.repeat(labels, repeats))
        tensor = self.call.inputs[0]
        self.tracker.reads.append(Read(self.call, tensor, axis % len(tensor.shape), site, repeats))


def channel_axis(layer: Any, rank: int) -> int:
    """Return where a layer has its channels, in a tensor of `rank` axes."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1
