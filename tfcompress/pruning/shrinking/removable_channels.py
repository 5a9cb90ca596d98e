"""Which channels of a model can be removed without a change of its outputs."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from tfcompress.channels import Analysis, analyse
from tfcompress.channels.tracker import Read
from tfcompress.core.passthrough import innermost
from tfcompress.core.transform import read
from tfcompress.graph.rewrite import calls
from tfcompress.layers.catalogue import traits_of
from tfcompress.layers.channel_axes import takes_bias
from tfcompress.pruning.shrinking.constant_channels import constants
from tfcompress.pruning.shrinking.constant_outputs import Values, depthwise_values, is_zero, pads


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What is to be removed from a flat functional model.

    Attributes:
        analysis: The groups of the model's channels.
        removable: For each group, whether each of its channels could go, bool of shape (size,).
        removed: By the index of a group, the channels that go; where all could, the first stays.
        offsets: By layer, what is to be added to its bias for the constants that it doesn't get any more.
        reasons: For each group why not all of its channels can be removed; `None` if they can.
    """

    analysis: Analysis
    removable: list[np.ndarray]
    removed: dict[int, np.ndarray]
    offsets: dict[str, np.ndarray]
    reasons: list[str | None]


def plan(model: keras.Model) -> Plan:
    """Return which channels of a flat functional model, without wrappers of weights, can be removed.

    A channel can be removed if every kernel that reads it has zeros there, at least in what stays of its outputs; or
    if it is zero wherever it is read; or if it has a constant value that can become part of the reader's bias.
    """
    return _Planner(model).run()


class _Planner:
    def __init__(self, model: keras.Model):
        self.analysis = analyse(model)
        self.known = constants(model)
        self.layers = {call.operation.name: innermost(call.operation) for call in calls(model)}
        # The kernels as they will be read: zero where the outputs that they make are gone.
        self.kernels = {
            (site.layer, site.position): np.array(read(self.layers[site.layer].weights[site.position]))
            for site in self.analysis.tracker.sites.values()
        }
        self.group_of, self.channel_of = self.analysis.channels
        self.inputs = {id(one): self.input(one) for one in self.analysis.tracker.reads}

    def run(self) -> Plan:
        groups = self.analysis.groups
        removed: dict[int, np.ndarray] = {}
        while True:  # kernels whose outputs are gone read nothing any more
            able, reasons = self.look()
            found = {
                index: channels if len(channels) < groups[index].size else channels[1:]
                for index, channels in enumerate(map(np.flatnonzero, able))
            }
            found = {index: channels for index, channels in found.items() if len(channels)}
            if sum(map(len, found.values())) == sum(map(len, removed.values())):
                return Plan(self.analysis, able, found, self.offsets(found), reasons)
            removed = found
            for index, channels in removed.items():
                self.clear(index, channels)

    def clear(self, index: int, channels: np.ndarray) -> None:
        for part in self.analysis.groups[index].slices:
            kernel = np.moveaxis(self.kernels[part.layer, part.position], part.axis, 0)
            kernel[part.indices(self.analysis.groups[index].size, channels)] = 0

    def input(self, one: Read) -> np.ndarray:
        """Return the constants that a kernel reads, one for each index of its axis; NaN where there is none."""
        known: Values = self.known[id(one.tensor)]
        value = known.get(one.axis)
        if value is None:
            value = np.full(len(one.site.labels) // one.repeats, np.nan)
        layer = innermost(one.call.operation)
        if traits_of(layer).channels != "separable":
            return value
        return depthwise_values(layer, read(layer.depthwise_kernel), value)

    def live(self, one: Read) -> np.ndarray:
        """Return for each index of a kernel's axis whether there are weights that are not zero."""
        kernel = np.moveaxis(self.kernels[one.site.layer, one.site.position], one.site.axis, 0)
        return np.asarray(np.any(kernel.reshape(len(kernel), -1) != 0, axis=1))

    def look(self) -> tuple[list[np.ndarray], list[str | None]]:
        """Return for each group which of its channels can be removed, and why others can't."""
        groups = self.analysis.groups
        able = [np.full(group.size, group.reason is None) for group in groups]
        reasons = [group.reason for group in groups]
        met = [False] * len(groups)

        def need(labels: np.ndarray, fine: np.ndarray, why: str) -> None:
            labels, fine = labels[labels >= 0], fine[labels >= 0]
            for index in np.unique(self.group_of[labels]):
                if index < 0:
                    continue
                met[index] = True
                held = labels[(self.group_of[labels] == index) & ~fine]
                if len(held):
                    able[index][self.channel_of[held]] = False
                    reasons[index] = reasons[index] or why

        for one in self.analysis.tracker.reads:
            value, live = self.inputs[id(one)], self.live(one)
            name = one.site.layer
            constant = live & ~is_zero(value) & ~np.isnan(value)
            if not _folds(one):
                need(
                    one.site.labels,
                    ~constant,
                    f"layer {name!r} reads a constant that isn't zero, which can't become part of its bias, since it "
                    "adds zeros around its input or is neither a dense layer nor a plain convolution",
                )
            need(one.site.labels, ~live | ~np.isnan(value), f"layer {name!r} reads it with weights that aren't zero")
        for product in self.analysis.tracker.products:
            labels = self.analysis.axes[id(product.tensors[0])][product.axes[0]]
            if labels is None:
                continue
            zero = np.zeros(len(labels), bool)
            for tensor, axis in zip(product.tensors, product.axes, strict=True):
                zero |= is_zero(self.known[id(tensor)].get(axis, np.full(len(labels), np.nan)))
            need(labels, zero, f"{product.call.operation.name!r} multiplies it, and neither factor is zero")
        for layer, labels, same in self.agreements():
            need(labels, same, f"layer {layer!r} is called several times, with other constants each time")
        for index, group in enumerate(groups):
            if not met[index]:
                able[index] = np.zeros(group.size, bool)
                reasons[index] = reasons[index] or "no layer reads it"
        return able, reasons

    def agreements(self) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Return, for layers with several calls, the labels and where all calls read the same constant, or nothing."""
        found = []
        by_site: dict[int, list[Read]] = {}
        for one in self.analysis.tracker.reads:
            by_site.setdefault(id(one.site), []).append(one)
        for several in by_site.values():
            if len(several) > 1:
                first = self.inputs[id(several[0])]
                fine = ~self.live(several[0])
                equal = np.all([_equal(self.inputs[id(one)], first) for one in several[1:]], axis=0)
                found.append((several[0].site.layer, several[0].site.labels, fine | equal))
        return found

    def offsets(self, removed: dict[int, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what the biases of readers take over from the constants that are removed."""
        found: dict[str, np.ndarray] = {}
        for one in {id(one.site): one for one in self.analysis.tracker.reads}.values():
            labels = one.site.labels
            gone = np.zeros(len(labels), bool)
            for index, channels in removed.items():
                gone |= (self.group_of[labels] == index) & np.isin(self.channel_of[labels], channels)
            value = self.inputs[id(one)]
            gone &= ~is_zero(value) & ~np.isnan(value)
            if not _folds(one) or not np.any(gone):
                continue
            layer = self.layers[one.site.layer]
            kernel = np.moveaxis(read(layer.weights[one.site.position]).astype("float64"), one.site.axis, 0)[gone]
            kernel = kernel.reshape(len(kernel), -1, kernel.shape[-1]).sum(axis=1)
            found[one.site.layer] = value[gone] @ kernel
        return found


def _folds(one: Read) -> bool:
    """Return whether constants that a layer reads can become part of its bias."""
    layer = innermost(one.call.operation)
    rule = traits_of(layer).channels
    plain = rule in ("dense", "separable") or (rule == "convolution" and layer.groups == 1 and not pads(layer))
    return plain and takes_bias(layer)


def _equal(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray(np.isclose(first, second, rtol=1e-6, atol=1e-9, equal_nan=True))
