"""What a schedule is, and the checks of its arguments."""

from __future__ import annotations

import contextvars
import dataclasses
import math
import numbers
from typing import Any, ClassVar

import keras
from keras import ops

from tfcompress.core.arguments import is_whole
from tfcompress.core.limits import MOST

Tensor = Any

NEVER = 2**31 - 1
"""A training step that no training reaches: steps are counted in 32 bits."""

register = keras.saving.register_keras_serializable(package="tfcompress")

MADE_AGAIN = contextvars.ContextVar("MADE_AGAIN", default=False)
"""Whether a schedule is made of a configuration: what there is to say was said when it was first made."""


def check_sparsity(name: str, value: Any) -> float:
    """Return a share of zeros as a float; raise ValueError unless it is a number in [0, 1)."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= float(value) < 1:
        raise ValueError(
            f"Expected `{name}` to be a number in [0, 1), the share of zeros. Received: {name}={value!r}. "
            "Give 0.8 for 80 % zeros."
        )
    return float(value)


def check_step(name: str, value: Any, least: int) -> int:
    """Return a number of training steps; raise ValueError unless it is a whole number from `least` on."""
    if not is_whole(value) or not least <= value <= MOST:
        raise ValueError(
            f"Expected `{name}` to be a whole number of training steps, at least {least} and up to {MOST}. "
            f"Received: {name}={value!r}."
        )
    return int(value)


def check_steps(begin_step: Any, end_step: Any, frequency: Any) -> None:
    """Raise ValueError unless these are whole numbers, and the end is -1 (none) or not before the beginning."""
    check_step("begin_step", begin_step, 0)
    check_step("end_step", end_step, -1)
    check_step("frequency", frequency, 1)
    if end_step != -1 and end_step < begin_step:
        raise ValueError(
            "Expected `end_step` to be -1 (no end) or not before `begin_step`. "
            f"Received: begin_step={begin_step}, end_step={end_step}."
        )


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A sparsity for every training step, and the steps at which masks are computed anew.

    Subclasses are frozen dataclasses, registered with `keras.saving.register_keras_serializable`, that implement
    `sparsity` and may have the fields or properties `begin_step` (0), `end_step` (-1: none) and `frequency` (100);
    `schedule(step)` returns the pair `(updates, sparsity)`, as tfmot's schedules do. The first forward pass with
    `training=True` is step 0.
    """

    regrows: ClassVar[bool] = False
    """Whether weights that are pruned grow again, as `regrown` says."""

    def sparsity(self, step: Tensor) -> Tensor:
        """Return the share of zeros, float32 scalar, at `step` (int32 scalar)."""
        raise NotImplementedError

    def updates(self, step: Tensor) -> Tensor:
        """Return whether masks are computed at `step`: from `begin_step` to `end_step`, each `frequency`."""
        begin, end, frequency = self._steps()
        step = ops.cast(step, "int32")
        due = ops.logical_and(step >= begin, ops.equal(ops.mod(step - begin, frequency), 0))
        return due if end == -1 else ops.logical_and(due, step <= end)

    def regrown(self, step: Tensor) -> Tensor:
        """Return the share of the kept weights that the update at `step` exchanges for pruned ones, float32; 0."""
        return ops.zeros((), "float32")

    def final(self) -> float:
        """Return the share of zeros after the last update.

        Raises:
            ValueError: If there is no last one.
        """
        begin, end, frequency = self._steps()
        if end == -1:
            raise ValueError(
                "Expected a schedule with an end, to say how sparse the model becomes. "
                f"Received: {self!r} with end_step=-1. Give end_step."
            )
        return float(self.sparsity(end - (end - begin) % frequency))

    def goal(self, steps: int) -> tuple[float, int] | None:
        """Return the share of zeros that is still to come, and after how many training steps; `None` if nothing is.

        Args:
            steps: That were done.
        """
        final = self.known_final()
        if final is None:
            return None
        begin, end, frequency = self._steps()
        last = begin if end == -1 else end - (end - begin) % frequency
        done = min(steps - 1, last)
        reached = 0.0 if done < begin else float(self.sparsity(done - (done - begin) % frequency))
        return None if reached >= final - 1e-6 else (final, last + 1)

    def next_update(self, steps: int) -> int | None:
        """Return the first training step, counted from 0, at which masks are computed anew; `None` if there is none.

        Args:
            steps: That were done.

        Raises:
            ValueError: If it isn't known.
        """
        begin, end, frequency = self._steps()
        due = max(begin, begin + math.ceil((steps - begin) / frequency) * frequency)
        return None if due >= NEVER or (end != -1 and due > end) else due

    def known_final(self) -> float | None:
        """Return the share of zeros after the last update; `None` if there is no last one."""
        try:
            return self.final()
        except ValueError:
            return None

    @property
    def falls(self) -> bool:
        """Whether the sparsity is known to fall: weights would have to come back, and nothing says which."""
        return False

    def _steps(self) -> tuple[int, int, int]:
        defaults = {"begin_step": 0, "end_step": -1, "frequency": 100}
        begin, end, frequency = (getattr(self, name, default) for name, default in defaults.items())
        return begin, end, frequency

    def __call__(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return `(updates, sparsity)` at `step`."""
        return self.updates(step), self.sparsity(step)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Schedule:
        """Make a schedule from `get_config`'s result."""
        before = MADE_AGAIN.set(True)
        try:
            return cls(**config)
        finally:
            MADE_AGAIN.reset(before)
