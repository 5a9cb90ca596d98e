"""The weight transform of pruning: a mask, computed anew on schedule."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.core.sharding import gathered
from tfcompress.core.transform import Encoded, WeightTransform, read
from tfcompress.layers.kernel_layouts import Layout
from tfcompress.pruning.criteria import criterion_of
from tfcompress.pruning.granularity import Block, Granularity, NofM
from tfcompress.pruning.prune_config import PruneConfig
from tfcompress.pruning.running_statistics import GATHERED, Gathering, Statistics
from tfcompress.pruning.schedules.base import NEVER
from tfcompress.pruning.top_k import in_turn, keep_count, largest, sortable
from tfcompress.quantization.encoding import Encoding

Tensor = Any

_HIGHEST = 0x7F800000
"""What `sortable` makes of infinity."""


@keras.saving.register_keras_serializable(package="tfcompress")
class Mask(WeightTransform):
    """Multiplies a weight by a mask of zeros and ones.

    The gradient passes where the mask is one. After each optimizer update the weight itself is multiplied
    (TensorFlow), so that it is really sparse at the end of every batch.

    Args:
        config: What is pruned and when.
        group: With scope "global", the name that all masks with one common budget share.
        group_size: How many these are: a part of them, in a part of the model, is left as it is.
        share: What the schedule's sparsity is multiplied by for this weight.
        cost: What keeping one unit of this weight costs, with scope "flops" or "bytes".
        fixed: What all that isn't pruned costs then, with this group alone.
        seed: A number of its own, for a random criterion.
        given: Whether the statistics were gathered from data beforehand, and stay as they are.
        inputs: The axes of the weight that are input channels, where units are blocks or patterns.
        outputs: The axes that are output channels.
    """

    def __init__(
        self,
        config: PruneConfig,
        group: str | None = None,
        *,
        group_size: int = 1,
        share: float = 1.0,
        cost: float = 1.0,
        fixed: float = 0.0,
        seed: int = 0,
        given: bool = False,
        inputs: Sequence[int] = (),
        outputs: Sequence[int] = (),
    ):
        self.config = config
        self.group = group
        self.group_size = group_size
        self.share = share
        self.cost = cost
        self.fixed = fixed
        self.seed = seed
        self.given = given
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.gathering = Gathering([name for name in config.needs if name in GATHERED])

    def build(self, weight: keras.Variable, add_state: Callable[..., keras.Variable]) -> None:
        """Create the mask, all ones, and the statistics, all zeros."""
        self.mask = add_state("mask", weight.shape, "bool", "ones")
        self.gathering.build(tuple(weight.shape), add_state)

    def apply(self, value: Tensor) -> Tensor:
        """Return `value` where the mask is one, else 0."""
        return ops.where(self.kept(), value, ops.zeros((), value.dtype))

    def encode(self, value: np.ndarray | Encoded) -> np.ndarray | Encoded:
        """Return what files store: zeros in the encoding that the weight has."""
        if isinstance(value, Encoding):
            return value.masked(np.asarray(gathered(self.kept())))
        return super().encode(value)

    def apply_in_training(self, value: Tensor, loss_scale: Tensor | None = None) -> Tensor:
        """Return the same; the gradient adds to the statistics, if there are any to be gathered."""
        if self.given or not self.gathering.values:
            return self.apply(value)
        return self.gathering.watched(value, ops.broadcast_to(self.kept(), value.shape), loss_scale)

    def project(self, value: Tensor) -> Tensor:
        """Return the masked value: what is pruned is zero."""
        return self.apply(value)

    def kept(self) -> Tensor:
        """Return the mask, bool, in a shape that the weight's shape broadcasts with."""
        return ops.convert_to_tensor(self.mask.value)

    @classmethod
    def update(cls, members: Sequence[tuple[WeightTransform, Callable[[], Tensor]]], step: Tensor) -> None:
        """Compute the masks of one group anew if the schedule says so at `step`."""
        masks = [member for member, _ in members if isinstance(member, Mask)]
        if len(masks) < masks[0].group_size:
            warnings.warn(
                f"Expected all {masks[0].group_size} weights that are pruned with one common budget to be in the model "
                f"that is trained. Received: {len(masks)} of them; their masks stay as they are.",
                stacklevel=2,
            )
            return
        gathering = [mask.gathering for mask in masks if not mask.given]
        for statistics in gathering:
            statistics.collect()
        due, sparsity = masks[0].config.schedule(step)
        previous = [ops.convert_to_tensor(mask.mask.value) for mask in masks]

        def select() -> list[Tensor]:
            return cls.select(masks, [value for _, value in members], sparsity, step)

        # In a step without an update nothing is done with the weights: they are read in the branch. The masks are
        # assigned outside of it: inside, a mirrored variable could not be.
        chosen = ops.cond(due, select, lambda: previous)
        for mask, value in zip(masks, chosen, strict=True):
            mask.mask.assign(value)
        for statistics in gathering:
            statistics.decay()

    @classmethod
    def select(
        cls, masks: Sequence[Any], values: Sequence[Callable[[], Tensor]], sparsity: Tensor, step: Tensor
    ) -> list[Tensor]:
        """Return the masks that keep the most important of all values at `sparsity`.

        What is pruned now counts as the least, also on JAX, where the weight under the mask is not zero.
        """
        config = masks[0].config
        units = config.units
        pairs = list(zip(masks, values, strict=True))
        if isinstance(units, NofM):
            return in_turn([partial(cls._pattern, units, mask, value) for mask, value in pairs])
        scores = in_turn([partial(cls._sortable, units, mask, value) for mask, value in pairs])
        budget, costs = _budget(masks, scores, sparsity)
        if config.schedule.regrows:
            kept = _regrow(masks, scores, budget, costs, config.schedule.regrown(step))
        else:
            kept = _best(config.scope != "layer", scores, budget, costs)
        if config.threshold is not None:
            least = sortable(ops.convert_to_tensor(config.threshold, "float32"))
            kept = [ops.logical_or(part, score >= least) for part, score in zip(kept, scores, strict=True)]
        return [mask.fold(units.expand(part, mask.matrices)) for part, mask in zip(kept, masks, strict=True)]

    @classmethod
    def remarks(cls, members: Sequence[tuple[str, WeightTransform, int]]) -> list[str]:
        """Return warnings: of goals that weren't reached, and of what a common budget left next to nothing of."""
        masks = [(name, mask, steps) for name, mask, steps in members if isinstance(mask, Mask)]
        return [*_unreached(masks), *cls._nearly_empty(masks)]

    @classmethod
    def _nearly_empty(cls, members: Sequence[tuple[str, Mask, int]]) -> list[str]:
        """Return a warning of what a common budget has left next to nothing of. (Of others `prune` has warned.)"""
        found = [
            f"{text} of layer {name!r}"
            for name, mask, _ in members
            if mask.config.scope != "layer" and (text := mask.units_left())
        ]
        if not found:
            return []
        return [
            f"The common budget leaves {', '.join(dict.fromkeys(found))}. Take a lower sparsity, scope='layer', or "
            "leave these layers out with `layers`."
        ]

    def units_left(self) -> str | None:
        """Return what is left, in words, if it is no more than one unit of several."""
        units = self.config.units
        left = ops.convert_to_numpy(units.units(self.unfold(ops.cast(read(self.mask), "float32")))) > 0
        if left.size == 1 or left.sum() > 1:
            return None
        return ("one block" if isinstance(units, Block) else "one weight") if left.any() else "nothing"

    @staticmethod
    def _pattern(units: NofM, mask: Mask, value: Callable[[], Tensor]) -> Tensor:
        return mask.fold(units.pattern(mask.unfold(mask.scores(value()))))

    @staticmethod
    def _sortable(units: Granularity, mask: Mask, value: Callable[[], Tensor]) -> Tensor:
        return sortable(units.units(mask.unfold(mask.scores(value()))))

    @property
    def layout(self) -> Layout | None:
        """The weight as a stack of matrices; `None` where its units are single weights."""
        return Layout(tuple(self.mask.shape), self.inputs, self.outputs) if self.inputs else None

    @property
    def matrices(self) -> tuple[int, ...]:
        """The shape that `unfold` gives."""
        return tuple(self.mask.shape) if self.layout is None else self.layout.matrices

    def unfold(self, x: Tensor) -> Tensor:
        """Return a tensor in the weight's shape as what units are made of."""
        return x if self.layout is None else self.layout.unfold(x)

    def fold(self, x: Tensor) -> Tensor:
        """Return what `unfold` was called on."""
        return x if self.layout is None else self.layout.fold(x)

    def scores(self, value: Tensor) -> Tensor:
        """Return how important each weight is, float32; what is pruned has the least."""
        criterion = criterion_of(self.config.criterion)
        scores = ops.cast(criterion(value, self.known()), "float32")
        return ops.where(self.kept(), scores, -math.inf)

    def known(self) -> Statistics:
        """Return what is known of the weight."""
        return Statistics(**self.gathering.known(), seed=self.seed)

    def brief(self) -> str:
        """Return the share of zeros at the schedule's end, and what of the config isn't as usual.

        >>> Mask(PruneConfig(0.5, granularity=Block(1, 4))).brief()
        '50% zeros in blocks of 1x4'
        """
        config, final = self.config, self.config.schedule.known_final()
        if getattr(config.schedule, "begin_step", 0) == NEVER:
            return "its zeros kept"
        words = ["zeros on schedule" if final is None else f"{100 * final:.3g}% zeros"]
        if isinstance(config.granularity, Block):
            words.append(f"in blocks of {config.granularity.rows}x{config.granularity.cols}")
        elif isinstance(config.granularity, NofM):
            words = [f"{config.granularity.n} of {config.granularity.m}"]
        elif config.granularity != "element":
            words.append(f"of {config.granularity}s")
        if config.criterion != "magnitude":
            words.append(f"by {config.criterion if isinstance(config.criterion, str) else config.criterion.__name__}")
        words += [f"with a {config.scope} budget"] if config.scope != "layer" else []
        return " ".join(words)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = ("group", "group_size", "share", "cost", "fixed", "seed", "given", "inputs", "outputs")
        return {"config": self.config.to_dict(), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Mask:
        """Make a mask, all ones, from `get_config`'s result."""
        return cls(**{**config, "config": PruneConfig.from_dict(config["config"])})


def _unreached(members: Sequence[tuple[str, Mask, int]]) -> list[str]:
    """Return a warning for each schedule that training has left before its end; of untrained models there is none."""
    found: dict[tuple[Any, int], list[Mask]] = {}
    for _, mask, steps in members:
        if steps and not mask.given:
            found.setdefault((mask.config.schedule, steps), []).append(mask)
    said = []
    for (schedule, steps), masks in found.items():
        goal = schedule.goal(steps)
        if goal is None:
            continue
        zeros = [~np.asarray(read(mask.mask)) for mask in masks]
        count, size = sum(int(part.sum()) for part in zeros), sum(part.size for part in zeros)
        # Targets give each weight a part of its own of what the schedule says.
        final = sum(goal[0] * mask.share * part.size for mask, part in zip(masks, zeros, strict=True)) / size
        if count + len(zeros) > final * size:  # zeros that were there before: a schedule begins late to keep them
            continue
        reached = f"Sparsity reached {count / size:.4g} of {final:.4g}"
        said.append(
            f"{reached}: from the schedule's beginning to its end there is no step at which masks are computed. Take a "
            "smaller frequency, or a later end_step."
            if goal[1] > NEVER
            else f"{reached} at step {steps} of {goal[1]}: training ended before the schedule did, or weights from "
            "before its end were restored. Train on, let the schedule end earlier, or let EarlyStopping begin behind "
            "it (start_from_epoch)."
        )
    return said


def _budget(masks: Sequence[Mask], scores: Sequence[Tensor], sparsity: Tensor) -> tuple[Tensor, list[float] | None]:
    """Return how many units are kept; or what they may cost, and what each costs."""
    sizes = [math.prod(part.shape) for part in scores]
    if masks[0].config.scope in ("layer", "global"):
        return keep_count(sum(sizes), masks[0].share * sparsity), None
    costs = [mask.cost for mask in masks]
    fixed = masks[0].fixed
    total = fixed + sum(size * cost for size, cost in zip(sizes, costs, strict=True))
    return total * (1.0 - ops.cast(sparsity, "float32")) - fixed, costs


def _regrow(
    masks: Sequence[Mask], scores: Sequence[Tensor], budget: Tensor, costs: list[float] | None, share: Tensor
) -> list[Tensor]:
    """Drop a share of what is kept by its scores, and grow as much by the size of the gradient (Evci et al., 2020)."""
    units = masks[0].config.units
    dropped = ops.cast(share, "float32") * ops.cast(budget, "float32")
    dropped = ops.cast(ops.round(dropped), "int32") if costs is None else dropped
    survivors = _best(masks[0].config.scope != "layer", scores, budget - dropped, costs)
    slopes = [units.units(mask.unfold(ops.abs(mask.gathering.known()["gradient"]))) for mask in masks]
    candidates = [ops.where(kept, -1.0, slope) for kept, slope in zip(survivors, slopes, strict=True)]
    grown = largest(candidates, dropped, costs)
    return [ops.logical_or(*pair) for pair in zip(survivors, grown, strict=True)]


def _best(shared: bool, scores: Sequence[Tensor], budget: Tensor, costs: Sequence[float] | None) -> list[Tensor]:
    """Return the masks of the largest scores; with a shared budget at least one of each kernel.

    Nothing would get through a kernel of zeros alone.

    Args:
        shared: Whether several kernels have one budget.
        scores: What `sortable` made of the scores of each kernel.
        budget: As of `largest`; it grows to what one unit of each kernel costs.
        costs: As of `largest`.
    """
    kept = largest(scores, budget, costs)
    if not shared:
        return kept

    def with_one_of_each() -> list[Tensor]:
        least = len(scores) if costs is None else sum(costs)
        raised = ops.maximum(budget, ops.cast(least, budget.dtype))
        return largest([_with_one_safe(part) for part in scores], raised, costs)

    none_is_empty = ops.all(ops.stack([ops.any(part) for part in kept]))
    return list(ops.cond(none_is_empty, lambda: kept, with_one_of_each))


def _with_one_safe(scores: Tensor) -> Tensor:
    """Return scores, of `sortable`, of which the largest is out of reach."""
    flat = ops.reshape(scores, (-1,))
    best = ops.equal(ops.arange(flat.shape[0], dtype="int32"), ops.cast(ops.argmax(flat), "int32"))
    return ops.reshape(ops.where(best, _HIGHEST, flat), scores.shape)
