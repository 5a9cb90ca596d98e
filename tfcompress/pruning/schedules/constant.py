"""Schedules whose sparsity is one number: from a step on, at a single step, or with masks that still move."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import ClassVar

from keras import ops

from tfcompress.pruning.schedules.base import Schedule, Tensor, check_sparsity, check_step, check_steps, register


@dataclasses.dataclass(frozen=True)
class _Constant(Schedule):
    target_sparsity: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "target_sparsity", check_sparsity("target_sparsity", self.target_sparsity))

    def sparsity(self, step: Tensor) -> Tensor:
        """Return `target_sparsity`."""
        return ops.convert_to_tensor(self.target_sparsity, "float32")

    def final(self) -> float:
        """Return `target_sparsity`."""
        return self.target_sparsity


@register
@dataclasses.dataclass(frozen=True)
class ConstantSparsity(_Constant):
    """The same sparsity from `begin_step` on; tfmot's `ConstantSparsity`.

    What is pruned stays pruned, so that the first mask is the last: later updates find the same weights. (In tfmot a
    weight under the mask can come back.) With criterion "threshold" weights that fall below it go as well, up to
    the sparsity.

    Args:
        target_sparsity: Share of zeros, in [0, 1).
        begin_step: First training step at which the mask is computed.
        end_step: Last training step at which the mask is computed; -1: no end.
        frequency: Training steps from one computation of the mask to the next.

    Raises:
        ValueError: If an argument is out of its range or `end_step` lies before `begin_step`.

    Example:

    >>> import tfcompress as tfc
    >>> updates, sparsity = tfc.ConstantSparsity(0.5, begin_step=10, frequency=5)(15)
    >>> bool(updates), float(sparsity)
    (True, 0.5)
    """

    begin_step: int = 0
    end_step: int = -1
    frequency: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.begin_step, self.end_step, self.frequency)


@register
@dataclasses.dataclass(frozen=True)
class OneShot(_Constant):
    """Prunes once, at `step`, and leaves the mask as it is from then on (Han et al., 2015: prune, then retrain).

    Args:
        target_sparsity: Share of zeros, in [0, 1).
        step: The training step at which the mask is computed.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> import tfcompress as tfc
    >>> schedule = tfc.OneShot(0.5, step=10)
    >>> [step for step in range(200) if schedule.updates(step)]
    [10]
    """

    step: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_step("step", self.step, 0)

    @property
    def begin_step(self) -> int:
        """The only step at which the mask is computed."""
        return self.step

    @property
    def end_step(self) -> int:
        """The only step at which the mask is computed."""
        return self.step


@register
@dataclasses.dataclass(frozen=True)
class Regrowth(_Constant):
    """The same sparsity from step 0 on, with masks that look for better weights: RigL (Evci et al., 2020).

    At step 0 the mask is chosen. Then, at `begin_step` and each `frequency` steps until `end_step`, a share of the
    kept weights is dropped and as many others are grown instead: `drop_fraction / 2 * (1 + cos(pi * t / end_step))`
    of them at step t.

    What grows begins at 0 (on JAX, where what is masked isn't zero, at the value that it had).

    Args:
        target_sparsity: Share of zeros, in [0, 1).
        drop_fraction: Share of the kept weights that is exchanged at first, in (0, 1).
        begin_step: First training step at which weights are exchanged (after step 0, which has none to exchange).
        end_step: Last training step at which the mask may change; the paper takes three quarters of the training.
        frequency: Training steps from one exchange to the next.

    Raises:
        ValueError: If an argument is out of its range or `end_step` is not after `begin_step`.

    Example:

    >>> import tfcompress as tfc
    >>> schedule = tfc.Regrowth(0.9, begin_step=100, end_step=300)
    >>> [(step, round(float(schedule.regrown(step)), 3)) for step in range(500) if schedule.updates(step)]
    [(0, 0.0), (100, 0.225), (200, 0.075), (300, 0.0)]
    """

    regrows: ClassVar[bool] = True

    _: dataclasses.KW_ONLY
    drop_fraction: float = 0.3
    begin_step: int = 0
    end_step: int
    frequency: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        share = self.drop_fraction
        if not isinstance(share, numbers.Real) or isinstance(share, bool) or not 0 < share < 1:
            raise ValueError(
                "Expected `drop_fraction` to be a number in (0, 1), a share of the kept weights. "
                f"Received: drop_fraction={share!r}."
            )
        check_step("end_step", self.end_step, 0)
        check_steps(self.begin_step, self.end_step, self.frequency)
        if self.end_step <= self.begin_step:
            raise ValueError(
                "Expected `end_step` after `begin_step`, since weights are exchanged between them. "
                f"Received: begin_step={self.begin_step}, end_step={self.end_step}."
            )

    def updates(self, step: Tensor) -> Tensor:
        """Return whether masks are computed at `step`: at 0, then from `begin_step` on, each `frequency`."""
        return ops.logical_or(ops.equal(ops.cast(step, "int32"), 0), super().updates(step))

    def next_update(self, steps: int) -> int | None:
        """Return the first training step, counted from 0, at which masks are computed anew; `None` if there is none."""
        return 0 if steps == 0 else super().next_update(steps)

    def regrown(self, step: Tensor) -> Tensor:
        """Return the share of the kept weights that is exchanged at `step`, float32 scalar; 0 at step 0."""
        progress = ops.minimum(ops.cast(step, "float32") / float(self.end_step), 1.0)
        share = self.drop_fraction / 2.0 * (1.0 + ops.cos(math.pi * progress))
        return ops.where(progress > 0.0, share, ops.zeros((), share.dtype))
