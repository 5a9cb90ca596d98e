"""Groups of channels of a model that can only be removed together, and where they lie in the weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import keras
import numpy as np
from keras import tree

from tfcompress.channels.rule_table import rule_of
from tfcompress.channels.tracker import Axes, Site, Step, Tracker
from tfcompress.graph.inputs.symbolic import graph_of
from tfcompress.graph.naming import free
from tfcompress.graph.rewrite import calls


@dataclasses.dataclass(frozen=True)
class Slice:
    """Where the channels of a group lie along one axis of one weight.

    Channel c has the indices `start + o * (size * inner + gap) + c * inner + i`, for all o < outer and i < inner.

    Attributes:
        layer: Name of the layer in the flat model.
        position: Of the weight in `weights` of the layer, or of the innermost one if it is wrapped.
        axis: Of that weight.
        role: "producer": a kernel whose outputs they are; "consumer": a kernel that reads them; "follower": a bias,
            a scale, a depthwise kernel, and whatever else goes along.
        start: Index of the first channel.
        outer: How often the channels are repeated, all of them (a flattened image: height * width).
        inner: How many neighbouring indices each has (depth multiplier, units of a head, ...).
        gap: How many indices of others lie between two repetitions.

    Example:

    >>> Slice("head", 0, 0, "consumer", outer=2).indices(3, [1]).tolist()
    [1, 4]
    """

    layer: str
    position: int
    axis: int
    role: str
    start: int = 0
    outer: int = 1
    inner: int = 1
    gap: int = 0

    def indices(self, size: int, channels: Iterable[int]) -> np.ndarray:
        """Return the indices along the axis, in ascending order, of some of the group's `size` channels."""
        chosen = np.unique(np.fromiter(channels, int))
        outer = np.arange(self.outer)[:, None, None] * (size * self.inner + self.gap)
        return np.asarray(self.start + outer + chosen[:, None] * self.inner + np.arange(self.inner)).ravel()


@dataclasses.dataclass(frozen=True)
class ChannelGroup:
    """Channels of which each is one with its likes in other layers.

    Attributes:
        name: That of the first layer that produces them, with a number behind it where another group has that name.
        kind: "channel"; "attention_head"; or "attention_width", channels inside of all heads of an attention.
        size: How many channels there are.
        slices: Where they lie.
        reason: Why none of them can be removed; `None` if they can.
    """

    name: str
    kind: str
    size: int
    slices: tuple[Slice, ...]
    reason: str | None

    @property
    def producers(self) -> tuple[str, ...]:
        """Names of the layers that produce the channels."""
        return tuple(dict.fromkeys(part.layer for part in self.slices if part.role == "producer"))


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
    """What is known of the channels of a model.

    Attributes:
        groups: The groups.
        tracker: The bookkeeping: which weights were met, who reads what.
        axes: The labels of the axes of each symbolic tensor, by its `id`.
        channels: For each label the group, as an index in `groups` (-1: none), and the channel in it.
    """

    groups: list[ChannelGroup]
    tracker: Tracker
    axes: dict[int, Axes]
    channels: tuple[np.ndarray, np.ndarray]


def channel_groups(model: keras.Model) -> list[ChannelGroup]:
    """Return the groups of channels of a model.

    Two channels are one where they are added, multiplied or the like; a convolution's input and output channels are
    not. What isn't known to keep channels apart makes those that it touches unremovable.

    Args:
        model: A flat functional model, as `tfcompress.graph.rebuild` returns; its layers may be wrapped.

    Returns:
        The groups, in the order of the layers that produce them.

    Example:

    >>> import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")])
    >>> for group in channel_groups(model):
    ...     print(group.name, group.size, [(part.layer, part.axis) for part in group.slices], group.reason)
    a 3 [('a', 1), ('a', 0), ('b', 0)] None
    b 2 [('b', 1), ('b', 0)] it is an output of the model
    """
    return analyse(model).groups


def analyse(model: keras.Model) -> Analysis:
    """Return the groups of channels of a flat functional model, and how they were found."""
    tracker = Tracker()
    graph = graph_of(model)
    axes: dict[int, Axes] = {id(x): (None,) * len(x.shape) for x in graph.inputs}
    for call in calls(model):
        step = Step(tracker, call, tuple(axes[id(x)] for x in call.inputs))
        for output, found in zip(call.outputs, rule_of(call.operation)(step), strict=True):
            axes[id(output)] = found
    found_on_the_way, tracker.blocks = tracker.blocks, []
    for output in tree.flatten(graph.output):
        for labels in axes[id(output)]:
            tracker.block(labels, "it is an output of the model")
    tracker.blocks += found_on_the_way  # of several reasons the first is said
    return _grouped(tracker, axes)


def _grouped(tracker: Tracker, axes: dict[int, Axes]) -> Analysis:
    component = tracker.components()
    reasons: dict[int, str | None] = {}
    for labels, why in tracker.blocks:
        for blocked in np.unique(component[labels]).tolist():
            reasons.setdefault(blocked, why)
    kinds = {found: kind for labels, kind in tracker.kinds for found in np.unique(component[labels]).tolist()}
    sites = sorted(tracker.sites.values(), key=lambda site: _ROLES.index(site.role))
    signatures: dict[int, list[tuple[int, int]]] = {}
    for index, site in enumerate(sites):
        met, first, counts = np.unique(component[site.labels], return_index=True, return_counts=True)
        for at in np.argsort(first):
            signatures.setdefault(int(met[at]), []).append((index, int(counts[at])))
    together: dict[object, list[int]] = {}
    for member, where in signatures.items():  # in the order in which producers have them
        key = (tuple(where), reasons.get(member), kinds.get(member, "channel"))
        together.setdefault(key, []).append(member)
    groups: list[ChannelGroup] = []
    group_of, channel_of = np.full(tracker.count, -1), np.full(tracker.count, -1)
    names: set[str] = set()
    for members in together.values():
        touched = [sites[index] for index, _ in signatures[members[0]]]
        if touched[0].role != "producer":
            continue
        local = np.full(tracker.count, -1)
        local[members] = np.arange(len(members))
        slices: list[Slice] = []
        reason = reasons.get(members[0])
        for site in touched:
            found = _slices(site, local[component[site.labels]], len(members))
            if found is None:
                reason = reason or f"its channels are in no regular order in layer {site.layer!r}"
            slices += found or []
        name = free(touched[0].layer, names)
        names.add(name)
        of = local[component]
        group_of[of >= 0], channel_of[of >= 0] = len(groups), of[of >= 0]
        groups.append(ChannelGroup(name, kinds.get(members[0], "channel"), len(members), tuple(slices), reason))
    return Analysis(groups, tracker, axes, (group_of, channel_of))


_ROLES = ("producer", "follower", "consumer")


def _slices(site: Site, local: np.ndarray, size: int) -> list[Slice] | None:
    """Return where the channels 0 to `size` lie along an axis; `None` if their order isn't regular."""
    found: list[Slice] = []
    places = np.flatnonzero(local >= 0)
    while len(places):
        start = int(places[0])
        other = np.flatnonzero(local[start:] != 0)
        inner = int(other[0]) if len(other) else len(local) - start
        if not inner or not np.array_equal(local[start : start + size * inner], np.repeat(np.arange(size), inner)):
            return None
        longer = _longer(found[-1], start, inner, size) if found else None
        if longer is not None:
            found[-1] = longer
        else:
            found.append(Slice(site.layer, site.position, site.axis, site.role, start, inner=inner))
        places = places[places >= start + size * inner]
    return found


def _longer(last: Slice, start: int, inner: int, size: int) -> Slice | None:
    """Return a slice with one more repetition, at `start`; `None` if it isn't where the next one has to be."""
    gap = start - last.start - size * inner if last.outer == 1 else last.gap
    if last.inner != inner or start != last.start + last.outer * (size * inner + gap):
        return None
    return dataclasses.replace(last, outer=last.outer + 1, gap=gap)
