"""Masks of whole channels or heads, which the weights that make and that read them have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.transform import read
from tfcompress.pruning.criteria import RELATIVE, criterion_of
from tfcompress.pruning.mask import Mask
from tfcompress.pruning.prune_config import PruneConfig
from tfcompress.pruning.running_statistics import Gathering, Statistics
from tfcompress.pruning.top_k import keep_count, largest, threshold

Tensor = Any
Costs = Sequence[Sequence[Any]]
"""For each kernel and each product of two tensors: what it costs whole, and for each of its axes a list of (unit, share
of the axis)."""


@keras.saving.register_keras_serializable(package="tfcompress")
class ChannelMask(Mask):
    """Zeros the slices of a weight that belong to the pruned channels of a unit.

    A unit is a set of channels that can only go together: those that several convolutions add up, say. Kernels that
    make the channels and kernels that read them are masked alike, so that nothing behind depends on what is pruned.

    Args:
        config: What is pruned and when.
        group: The name that all masks have which are computed together.
        unit: The name of the unit.
        size: Number of its channels.
        axis: Of the weight, along which they lie.
        role: "producer": the kernel makes the channels, "scale": they are its gammas; else it doesn't say how
            important they are.
        start: Index along the axis at which they begin.
        outer: How often they are repeated along the axis.
        inner: How many indices each has in one go.
        gap: How many indices of others lie between two repetitions.
        costs: With scope "flops" or "bytes", in one of the masks of the group: what each kernel, or
            product of two tensors, costs.
        **common: `group_size`, `share`, `seed` and `given`, as of `Mask`.
    """

    def __init__(
        self,
        config: PruneConfig,
        group: str | None = None,
        *,
        unit: str,
        size: int,
        axis: int,
        role: str,
        start: int = 0,
        outer: int = 1,
        inner: int = 1,
        gap: int = 0,
        costs: Costs | None = None,
        **common: Any,
    ):
        super().__init__(config, group, **common)
        self.unit = unit
        self.size = size
        self.axis = axis
        self.role = role
        self.start = start
        self.outer = outer
        self.inner = inner
        self.gap = gap
        self.costs = costs

    def build(self, weight: keras.Variable, add_state: Callable[..., keras.Variable]) -> None:
        """Create the mask, one bool per channel, and the statistics."""
        self.shape = tuple(weight.shape)
        unit = self.unit.replace("/", "_")
        self.mask = add_state(f"{unit}_{self.start}_mask", (self.size,), "bool", "ones")
        self.frequency: keras.Variable | None = None
        if self.role != "producer":
            self.gathering = Gathering([])
            return
        self.gathering.build(self.shape, lambda name, *args, **how: add_state(f"{unit}_{name}", *args, **how))
        if "activation_frequency" in self.config.needs:
            self.frequency = add_state(f"{unit}_activation_frequency", (self.size,), "float32", "zeros")

    def kept(self) -> Tensor:
        """Return a mask that the weight's shape broadcasts with."""
        return self.along(ops.convert_to_tensor(self.mask.value), True)

    def along(self, channels: Tensor, others: Any) -> Tensor:
        """Return one value per index of the axis, of one per channel; what is outside of the slice has `others`."""
        inside = ops.repeat(channels, self.inner) if self.inner > 1 else channels
        if self.outer > 1:
            one = _joined([inside, *self._filled(self.gap, others, channels)])
            inside = ops.tile(one, (self.outer,))[: self._length]
        rest = self.shape[self.axis] - self.start - self._length
        whole = _joined([*self._filled(self.start, others, channels), inside, *self._filled(rest, others, channels)])
        return ops.reshape(whole, [-1 if axis == self.axis else 1 for axis in range(len(self.shape))])

    @staticmethod
    def _filled(count: int, value: Any, like: Tensor) -> list[Tensor]:
        return [ops.full((count,), value, dtype=like.dtype)] if count else []

    @property
    def _length(self) -> int:
        """How many indices there are from the first of the unit to its last."""
        return self.outer * (self.size * self.inner + self.gap) - self.gap

    def per_channel(self, scores: Tensor) -> Tensor:
        """Return the mean of scores, in the shape of the weight, over what belongs to each channel."""
        moved = ops.reshape(ops.moveaxis(scores, self.axis, 0), (self.shape[self.axis], -1))
        inside = moved[self.start : self.start + self._length]
        inside = ops.pad(inside, ((0, self.gap), (0, 0))) if self.gap else inside
        repeated = ops.reshape(inside, (self.outer, self.size * self.inner + self.gap, -1))
        own = repeated[:, : self.size * self.inner]
        return ops.mean(ops.reshape(own, (self.outer, self.size, self.inner, -1)), axis=(0, 2, 3))

    @classmethod
    def select(
        cls, masks: Sequence[Any], values: Sequence[Callable[[], Tensor]], sparsity: Tensor, step: Tensor
    ) -> list[Tensor]:
        """Return the masks that keep the most important channels of all units at `sparsity`."""
        units: dict[str, list[tuple[ChannelMask, Callable[[], Tensor]]]] = {}
        for mask, value in zip(masks, values, strict=True):
            units.setdefault(mask.unit, []).append((mask, value))
        scores = [_scores(members) for members in units.values()]
        first = [members[0][0] for members in units.values()]
        config = masks[0].config
        if config.scope != "layer" and config.criterion in RELATIVE:
            scores = [_beside_their_mean(part) for part in scores]
        if config.scope == "layer":
            kept = [
                largest([part], keep_count(mask.size, mask.share * sparsity))[0]
                for part, mask in zip(scores, first, strict=True)
            ]
        elif config.scope == "global":
            scores = [_with_one_safe(part) for part in scores]
            budget = keep_count(sum(mask.size for mask in first), sparsity)
            kept = largest(scores, ops.maximum(budget, len(scores)))
        else:
            costs = next(mask.costs for mask in masks if mask.costs is not None)
            kept = _within([_with_one_safe(part) for part in scores], list(units), costs, sparsity)
        if config.threshold is not None:
            kept = [ops.logical_or(part, score >= config.threshold) for part, score in zip(kept, scores, strict=True)]
        by_unit = dict(zip(units, kept, strict=True))
        return [by_unit[mask.unit] for mask in masks]

    def units_left(self) -> str | None:
        """Return what is left, in words, if it is one channel of several."""
        kept = int(read(self.mask).sum())
        if self.role != "producer" or self.size == 1 or kept > 1:
            return None
        return "one head" if self.config.granularity == "attention_head" else "one channel"

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = ("unit", "size", "axis", "role", "start", "outer", "inner", "gap", "costs")
        config = {**super().get_config(), **{name: getattr(self, name) for name in own}}
        return {name: value for name, value in config.items() if name not in _OF_ELEMENTS}


_OF_ELEMENTS = ("cost", "fixed", "inputs", "outputs")


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return ops.concatenate(list(parts)) if len(parts) > 1 else parts[0]


def _scores(members: Sequence[tuple[ChannelMask, Callable[[], Tensor]]]) -> Tensor:
    """Return how important each channel of a unit is: the mean over the kernels that make it; of a pruned one -inf."""
    scales = [
        mask.per_channel(ops.abs(ops.cast(value(), "float32"))) for mask, value in members if mask.role == "scale"
    ]
    scale = sum(scales) / len(scales) if scales else None
    found = []
    for mask, value in members:
        if mask.role != "producer":
            continue
        known = mask.gathering.known()
        if mask.frequency is not None:
            known["activation_frequency"] = mask.along(ops.copy(mask.frequency.value), 0.0)
        around = {} if scale is None else {"scale": mask.along(scale, 0.0)}
        scores = criterion_of(mask.config.criterion)(value(), Statistics(**known, **around, seed=mask.seed))
        found.append(mask.per_channel(ops.cast(scores, "float32")))
    kept = ops.convert_to_tensor(members[0][0].mask.value)
    return ops.where(kept, sum(found) / len(found), -float("inf"))


def _beside_their_mean(scores: Tensor) -> Tensor:
    """Return scores as multiples of their mean, in which pruned channels count as 0, so that units can be compared.

    A unit that has lost many channels has a lower mean, and loses the others less easily.
    """
    kept = ops.where(ops.isfinite(scores), ops.abs(scores), 0.0)
    return scores / ops.maximum(ops.mean(kept), 1e-30)


def _with_one_safe(scores: Tensor) -> Tensor:
    """Return scores of which the largest is out of reach, so that no unit loses all of its channels."""
    best = ops.one_hot(ops.argmax(scores), scores.shape[0], dtype="bool")
    return ops.where(best, float("inf"), scores)


def _within(scores: Sequence[Tensor], names: Sequence[str], costs: Costs, sparsity: Tensor) -> list[Tensor]:
    """Return the masks of the best channels with which the kernels cost what `sparsity` leaves of the whole.

    A kernel costs as much of its whole as is left of each of its axes, multiplied: both what it reads and what it
    makes get fewer.
    """
    sizes = [part.shape[0] for part in scores]
    ends = np.cumsum(sizes)
    # Ranks have no ties, so that each threshold adds one channel.
    ranks = ops.argsort(ops.argsort(ops.concatenate(list(scores))))
    parts = [ops.cast(ranks[end - size : end], "int32") for end, size in zip(ends, sizes, strict=True)]
    place = {name: index for index, name in enumerate(names)}
    axes = [axis for _, of_kernel in costs for axis in of_kernel]
    lost = np.zeros((len(axes), len(names)), "float32")  # of an axis, if a unit loses all
    for row, axis in enumerate(axes):
        for name, share in axis:
            lost[row, place[name]] += share
    whole = np.array([cost for cost, _ in costs], "float32")
    owner = [index for index, (_, of_kernel) in enumerate(costs) for _ in of_kernel]
    # Kernels by axes, padded with an axis that is never cut.
    width = max((len(of_kernel) for _, of_kernel in costs), default=1) or 1
    table = np.full((len(costs), width), len(axes))
    filled = [0] * len(costs)
    for row, kernel in enumerate(owner):
        table[kernel, filled[kernel]] = row
        filled[kernel] += 1

    def cost(least: Tensor) -> Tensor:
        counts = ops.stack([ops.sum(ops.cast(part >= least, "float32")) for part in parts])
        pruned = 1.0 - counts / np.array(sizes, "float32")
        left = ops.concatenate([1.0 - ops.matmul(lost, pruned[:, None])[:, 0], ops.ones((1,))])
        return ops.sum(whole * ops.prod(ops.reshape(ops.take(left, table.ravel()), table.shape), axis=1))

    budget = float(whole.sum()) * (1.0 - ops.cast(sparsity, "float32"))
    least = threshold(cost, budget)
    least = ops.where(cost(least) > budget, least + 1, least)
    safe = [ops.isinf(part) & (part > 0) for part in scores]
    return [ops.logical_or(part >= least, one) for part, one in zip(parts, safe, strict=True)]
