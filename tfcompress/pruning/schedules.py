"""Sparsity as a function of the training step."""

from __future__ import annotations

import dataclasses
import math
import numbers
import warnings
from typing import Any

import keras
from keras import ops

Tensor = Any

register = keras.saving.register_keras_serializable(package="tfcompress")


def _sparsity(name: str, value: Any) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= float(value) < 1:
        raise ValueError(
            f"Expected `{name}` to be a number in [0, 1), the share of zeros. Received: {name}={value!r}. "
            "Give 0.8 for 80 % zeros."
        )
    return float(value)


def _step(name: str, value: Any, least: int) -> int:
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(
            f"Expected `{name}` to be a whole number of training steps, at least {least}. Received: {name}={value!r}."
        )
    return int(value)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A sparsity for every training step, and the steps at which masks are computed anew.

    Subclasses are frozen dataclasses, registered with `keras.saving.register_keras_serializable`, that implement
    `sparsity` and may have the fields `begin_step` (0), `end_step` (-1: none) and `frequency` (100);
    `schedule(step)` returns the pair `(updates, sparsity)`, as tfmot's schedules do. The first forward pass with
    `training=True` is step 0.
    """

    def sparsity(self, step: Tensor) -> Tensor:
        """Return the share of zeros, float32 scalar, at `step` (int32 scalar)."""
        raise NotImplementedError

    def updates(self, step: Tensor) -> Tensor:
        """Return whether masks are computed at `step`: from `begin_step` to `end_step`, each `frequency`."""
        defaults = {"begin_step": 0, "end_step": -1, "frequency": 100}
        begin, end, frequency = (getattr(self, name, default) for name, default in defaults.items())
        step = ops.cast(step, "int32")
        due = ops.logical_and(step >= begin, ops.equal(ops.mod(step - begin, frequency), 0))
        return due if end == -1 else ops.logical_and(due, step <= end)

    def __call__(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return `(updates, sparsity)` at `step`."""
        return self.updates(step), self.sparsity(step)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Schedule:
        """Make a schedule from `get_config`'s result."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it was said when the schedule was first made
            return cls(**config)


@register
@dataclasses.dataclass(frozen=True)
class ConstantSparsity(Schedule):
    """The same sparsity from `begin_step` on; tfmot's `ConstantSparsity`.

    Args:
        target_sparsity: Share of zeros, in [0, 1).
        begin_step: First training step at which the mask is computed.
        end_step: Last training step at which the mask may change; -1: no end.
        frequency: Training steps from one computation of the mask to the next.

    Raises:
        ValueError: If an argument is out of its range or `end_step` lies before `begin_step`.

    Example:

    >>> import tfcompress as tfc
    >>> updates, sparsity = tfc.ConstantSparsity(0.5, begin_step=10, frequency=5)(15)
    >>> bool(updates), float(sparsity)
    (True, 0.5)
    """

    target_sparsity: float
    begin_step: int = 0
    end_step: int = -1
    frequency: int = 100

    def __post_init__(self) -> None:
        object.__setattr__(self, "target_sparsity", _sparsity("target_sparsity", self.target_sparsity))
        _step("begin_step", self.begin_step, 0)
        _step("end_step", self.end_step, -1)
        _step("frequency", self.frequency, 1)
        if self.end_step != -1 and self.end_step < self.begin_step:
            raise ValueError(
                "Expected `end_step` to be -1 (no end) or not before `begin_step`. "
                f"Received: begin_step={self.begin_step}, end_step={self.end_step}."
            )

    def sparsity(self, step: Tensor) -> Tensor:
        """Return `target_sparsity`."""
        return ops.convert_to_tensor(self.target_sparsity, "float32")


@dataclasses.dataclass(frozen=True)
class _Ramp(Schedule):
    """A sparsity that goes from one value to another between two steps."""

    initial_sparsity: float
    final_sparsity: float
    begin_step: int
    end_step: int

    def __post_init__(self) -> None:
        for name in ("initial_sparsity", "final_sparsity"):
            object.__setattr__(self, name, _sparsity(name, getattr(self, name)))
        _step("begin_step", self.begin_step, 0)
        _step("end_step", self.end_step, 0)
        _step("frequency", self.frequency, 1)  # type: ignore[attr-defined]
        if self.end_step <= self.begin_step:
            raise ValueError(
                "Expected `end_step` after `begin_step`, since the sparsity rises between them. "
                f"Received: begin_step={self.begin_step}, end_step={self.end_step}."
            )
        frequency = self.frequency  # type: ignore[attr-defined]
        missing = (self.end_step - self.begin_step) % frequency
        if missing:
            last = self.end_step - missing
            reached = float(self.sparsity(last))
            warnings.warn(
                f"{type(self).__name__}: the last update is at step {last}, where the sparsity is "
                f"{reached:.4g}, not final_sparsity={self.final_sparsity:.4g}: from begin_step="
                f"{self.begin_step} to end_step={self.end_step} is no multiple of frequency={frequency}.",
                stacklevel=3,
            )

    def progress(self, step: Tensor) -> Tensor:
        """Return how far `step` is from `begin_step` (0) to `end_step` (1), float32."""
        past = ops.cast(step, "float32") - float(self.begin_step)
        return ops.clip(past / float(self.end_step - self.begin_step), 0.0, 1.0)


@register
@dataclasses.dataclass(frozen=True)
class PolynomialDecay(_Ramp):
    """Rises fast at first, then ever slower; with power 3 the schedule of Zhu and Gupta (2017, AGP).

    `s(t) = final + (initial - final) * (1 - p)^power`, where p goes from 0 at `begin_step` to 1 at
    `end_step`; tfmot's `PolynomialDecay`.

    Args:
        initial_sparsity: Share of zeros at `begin_step`, in [0, 1).
        final_sparsity: Share of zeros from `end_step` on, in [0, 1).
        begin_step: First training step at which the mask is computed.
        end_step: Last training step at which the mask may change.
        power: Exponent, above 0; 1 is linear.
        frequency: Training steps from one computation of the mask to the next. Where `end_step - begin_step`
            is no multiple of it, the final sparsity is not reached, and a warning says so.

    Raises:
        ValueError: If an argument is out of its range or `end_step` is not after `begin_step`.

    Example:

    >>> import tfcompress as tfc
    >>> schedule = tfc.PolynomialDecay(0.2, 0.8, begin_step=100, end_step=110, frequency=1)
    >>> [round(float(schedule.sparsity(step)), 4) for step in (100, 102, 105, 110)]
    [0.2, 0.4928, 0.725, 0.8]
    """

    power: float = 3
    frequency: int = 100

    def __post_init__(self) -> None:
        if not isinstance(self.power, numbers.Real) or not self.power > 0 or math.isinf(self.power):
            raise ValueError(f"Expected `power` to be a number above 0. Received: power={self.power!r}.")
        super().__post_init__()

    def sparsity(self, step: Tensor) -> Tensor:
        """Return the share of zeros, float32 scalar, at `step`."""
        rest = ops.power(1.0 - self.progress(step), float(self.power))
        return self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * rest


@register
@dataclasses.dataclass(frozen=True)
class CosineDecay(_Ramp):
    """Rises slowly at first and at last; half a cosine.

    `s(t) = final + (initial - final) * (1 + cos(pi * p)) / 2`, where p goes from 0 at `begin_step` to 1 at
    `end_step`; the shape of Loshchilov and Hutter (2017), applied to sparsity.

    Args:
        initial_sparsity: Share of zeros at `begin_step`, in [0, 1).
        final_sparsity: Share of zeros from `end_step` on, in [0, 1).
        begin_step: First training step at which the mask is computed.
        end_step: Last training step at which the mask may change.
        frequency: Training steps from one computation of the mask to the next, as in `PolynomialDecay`.

    Raises:
        ValueError: If an argument is out of its range or `end_step` is not after `begin_step`.

    Example:

    >>> import tfcompress as tfc
    >>> schedule = tfc.CosineDecay(0.0, 0.8, begin_step=0, end_step=100)
    >>> [round(float(schedule.sparsity(step)), 4) for step in (0, 50, 100)]
    [0.0, 0.4, 0.8]
    """

    frequency: int = 100

    def sparsity(self, step: Tensor) -> Tensor:
        """Return the share of zeros, float32 scalar, at `step`."""
        rest = (1.0 + ops.cos(math.pi * self.progress(step))) / 2.0
        return self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * rest


def as_schedule(value: Any) -> Schedule:
    """Return a schedule: `value` itself, or `ConstantSparsity(value)` for a number."""
    if isinstance(value, Schedule):
        return value
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return ConstantSparsity(float(value))
    raise ValueError(
        "Expected a schedule (such as tfcompress.PolynomialDecay) or a sparsity in [0, 1). "
        f"Received: {value!r} of type {type(value).__name__}."
    )
