"""What is removed at once: scores of weights to scores of units, and masks of units to masks of weights."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
from keras import ops

from tfcompress.core.arguments import is_whole, short
from tfcompress.core.limits import MOST

Tensor = Any
Shape = tuple[int, ...]

register = keras.saving.register_keras_serializable(package="tfcompress")


@dataclasses.dataclass(frozen=True)
class Granularity:
    """How the weights of a kernel are divided into units; here each weight is one.

    A kernel is a stack of matrices, (count, input channels, output channels); see `layouts.Layout`.
    """

    def check(self, matrices: Shape, where: str) -> None:
        """Raise ValueError unless a kernel has such units; `where` names it."""

    def units(self, scores: Tensor) -> Tensor:
        """Return one score per unit of the scores of a stack of matrices."""
        return scores

    def expand(self, kept: Tensor, matrices: Shape) -> Tensor:
        """Return a bool mask of a stack of matrices of one bool per unit."""
        return kept

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Granularity:
        """Make one from `get_config`'s result."""
        return cls(**config)


def _whole(name: str, value: Any, least: int) -> None:
    if not is_whole(value) or not least <= value <= MOST:
        raise ValueError(f"Expected `{name}` to be a whole number, at least {least}. Received: {name}={value!r}.")


@register
@dataclasses.dataclass(frozen=True)
class Block(Granularity):
    """Blocks of weights that neighbour each other in (input channel, output channel), zero all or none.

    As in tfmot, a block counts as much as the mean or the largest of its weights. TFLite's kernels for sparse dense
    layers take blocks of 16 inputs to one output: `Block(16, 1)`. At an edge blocks may be cut;
    sparsity is the share of blocks.

    Args:
        rows: Input channels in a block.
        cols: Output channels in a block.
        pooling: "AVG" or "MAX" of the weights' scores.

    Raises:
        ValueError: If an argument is something else.

    Example:

    >>> import keras, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> zero = tfc.prune_once(model, 0.5, granularity=tfc.Block(4, 1)).get_layer("dense").kernel.numpy() == 0
    >>> sorted(zero.reshape(2, 4, 4).sum(axis=1).ravel().tolist())
    [0, 0, 0, 0, 4, 4, 4, 4]
    """

    rows: int
    cols: int
    pooling: str = "AVG"

    def __post_init__(self) -> None:
        _whole("rows", self.rows, 1)
        _whole("cols", self.cols, 1)
        if not isinstance(self.pooling, str) or self.pooling not in ("AVG", "MAX"):
            raise ValueError(f"Expected `pooling` to be 'AVG' or 'MAX'. Received: pooling={short(self.pooling)}.")

    def check(self, matrices: Shape, where: str) -> None:
        """Raise ValueError if a block is larger than the kernel."""
        _, rows, cols = matrices
        if self.rows > rows or self.cols > cols:
            raise ValueError(
                f"Expected blocks no larger than the kernel's {rows} input and {cols} output channels. Received: "
                f"{self.rows} x {self.cols} for {where}. Take smaller blocks, or leave it out with `layers`."
            )

    def units(self, scores: Tensor) -> Tensor:
        """Return the mean or largest score of each block."""
        _, rows, cols = scores.shape
        more = [(0, 0), (0, -rows % self.rows), (0, -cols % self.cols)]
        if self.pooling == "MAX":
            return ops.max(self._blocks(ops.pad(scores, more, constant_values=-math.inf)), axis=(2, 4))
        inside = self._blocks(ops.pad(ops.ones((1, rows, cols)), more))
        return ops.sum(self._blocks(ops.pad(scores, more)), axis=(2, 4)) / ops.sum(inside, axis=(2, 4))

    def _blocks(self, x: Tensor) -> Tensor:
        count, rows, cols = x.shape
        return ops.reshape(x, (count, rows // self.rows, self.rows, cols // self.cols, self.cols))

    def expand(self, kept: Tensor, matrices: Shape) -> Tensor:
        """Return each block's bool for all of its weights."""
        _, rows, cols = matrices
        wide = ops.repeat(ops.repeat(kept, self.rows, axis=1), self.cols, axis=2)
        return wide[:, :rows, :cols]


@register
@dataclasses.dataclass(frozen=True)
class NofM(Granularity):
    """At most `n` of each `m` weights that follow each other along the input channels are kept (2:4 and the like).

    The schedule says when: at its first update the pattern is chosen, whatever sparsity it names, which must end at
    1 - n/m; it then stays. Kernels of depthwise convolutions, whose filters have one input channel, are left as they
    are; kernels with fewer than `m` input channels get fewer zeros, or none, and a warning names them.

    Args:
        n: Weights that are kept of each `m`; at least 1.
        m: Weights in a group; more than `n`.

    Raises:
        ValueError: If an argument is something else.

    Example:

    >>> import keras, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3, name="dense")])
    >>> kernel = tfc.prune_once(model, 0.5, granularity=tfc.NofM(2, 4)).get_layer("dense").kernel.numpy()
    >>> (kernel.reshape(2, 4, 3) != 0).sum(axis=1).tolist()
    [[2, 2, 2], [2, 2, 2]]
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        _whole("n", self.n, 1)
        _whole("m", self.m, 2)
        if self.n >= self.m:
            raise ValueError(
                f"Expected `n` to be smaller than `m`: so many of `m` weights are kept. Received: n={self.n}, "
                f"m={self.m}. NofM(2, 4) keeps two of four."
            )

    @property
    def sparsity(self) -> float:
        """Share of zeros in a kernel whose input channels `m` divides."""
        return 1 - self.n / self.m

    def pattern(self, scores: Tensor) -> Tensor:
        """Return the mask that keeps the `n` best of each `m`; of equal ones those that come first.

        Args:
            scores: Of a stack of matrices, (count, rows, columns).
        """
        count, rows, cols = scores.shape
        groups = ops.pad(scores, [(0, 0), (0, -rows % self.m), (0, 0)], constant_values=-math.inf)
        members = ops.unstack(ops.reshape(groups, (count, -1, self.m, cols)), self.m, axis=2)
        # A weight's rank is the number of better ones: m^2 comparisons, no sort.
        ranks = [
            sum(
                ops.cast(other >= one if place < at else other > one, "int32")
                for place, other in enumerate(members)
                if place != at
            )
            for at, one in enumerate(members)
        ]
        return ops.reshape(ops.stack([rank < self.n for rank in ranks], axis=2), (count, -1, cols))[:, :rows]


ELEMENT = Granularity()

NAMED: dict[str, Granularity] = {"element": ELEMENT}
"""By the name in a `PruneConfig`; whole channels and heads, which are no part of one kernel alone, have masks of
their own."""

STRUCTURES = ("channel", "attention_head")
"""What several kernels have in common, and what `shrink` removes."""
