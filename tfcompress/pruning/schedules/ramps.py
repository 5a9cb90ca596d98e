"""Schedules whose sparsity goes from one value to another: polynomial, cosine, exponential."""

from __future__ import annotations

import dataclasses
import math
import warnings

import keras
from keras import ops

from tfcompress.core.arguments import check_number
from tfcompress.pruning.schedules.base import MADE_AGAIN, Schedule, Tensor, check_sparsity, check_step, register

MOST_POWER = 1000.0
"""Beyond it the schedule is a step."""


@dataclasses.dataclass(frozen=True)
class _Ramp(Schedule):
    """A sparsity that goes from one value to another between two steps."""

    initial_sparsity: float
    final_sparsity: float
    begin_step: int
    end_step: int

    def __post_init__(self) -> None:
        for name in ("initial_sparsity", "final_sparsity"):
            object.__setattr__(self, name, check_sparsity(name, getattr(self, name)))
        check_step("begin_step", self.begin_step, 0)
        check_step("end_step", self.end_step, 0)
        check_step("frequency", self.frequency, 1)  # type: ignore[attr-defined]
        if self.end_step <= self.begin_step:
            raise ValueError(
                "Expected `end_step` after `begin_step`, since the sparsity rises between them. "
                f"Received: begin_step={self.begin_step}, end_step={self.end_step}."
            )
        frequency = self.frequency  # type: ignore[attr-defined]
        missing = (self.end_step - self.begin_step) % frequency
        if missing and not MADE_AGAIN.get():
            last = self.end_step - missing
            reached, wanted = f"{float(self.sparsity(last)):.4g}", f"{self.final_sparsity:.4g}"
            if reached != wanted:
                warnings.warn(
                    f"{type(self).__name__}: the last update is at step {last}, where the sparsity is "
                    f"{reached}, not final_sparsity={wanted}: from begin_step="
                    f"{self.begin_step} to end_step={self.end_step} is no multiple of frequency={frequency}.",
                    stacklevel=3,
                )

    def final(self) -> float:
        """Return the share of zeros after the last update: `final_sparsity`, where it is reached."""
        missing = (self.end_step - self.begin_step) % self.frequency  # type: ignore[attr-defined]
        return super().final() if missing else self.final_sparsity

    @property
    def falls(self) -> bool:
        """Whether the sparsity falls."""
        return self.final_sparsity < self.initial_sparsity

    def progress(self, step: Tensor) -> Tensor:
        """Return how far `step` is from `begin_step` (0) to `end_step` (1), float32."""
        past = ops.cast(step, "float32") - float(self.begin_step)
        return ops.clip(past / float(self.end_step - self.begin_step), 0.0, 1.0)


@register
@dataclasses.dataclass(frozen=True)
class PolynomialSparsity(_Ramp):
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
    >>> schedule = tfc.PolynomialSparsity(0.2, 0.8, begin_step=100, end_step=110, frequency=1)
    >>> [round(float(schedule.sparsity(step)), 4) for step in (100, 102, 105, 110)]
    [0.2, 0.4928, 0.725, 0.8]
    """

    power: float = 3
    frequency: int = 100

    def __post_init__(self) -> None:
        check_number("`power`", self.power, 0, MOST_POWER, above=True)
        super().__post_init__()

    def sparsity(self, step: Tensor) -> Tensor:
        """Return the share of zeros, float32 scalar, at `step`."""
        rest = ops.power(1.0 - self.progress(step), float(self.power))
        return self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * rest


@register
@dataclasses.dataclass(frozen=True)
class CosineSparsity(_Ramp):
    """Rises slowly at first and at last; half a cosine.

    `s(t) = final + (initial - final) * (1 + cos(pi * p)) / 2`, where p goes from 0 at `begin_step` to 1 at
    `end_step`; the shape of Loshchilov and Hutter (2017), applied to sparsity.

    Args:
        initial_sparsity: Share of zeros at `begin_step`, in [0, 1).
        final_sparsity: Share of zeros from `end_step` on, in [0, 1).
        begin_step: First training step at which the mask is computed.
        end_step: Last training step at which the mask may change.
        frequency: Training steps from one computation of the mask to the next, as in `PolynomialSparsity`.

    Raises:
        ValueError: If an argument is out of its range or `end_step` is not after `begin_step`.

    Example:

    >>> import tfcompress as tfc
    >>> schedule = tfc.CosineSparsity(0.0, 0.8, begin_step=0, end_step=100)
    >>> [round(float(schedule.sparsity(step)), 4) for step in (0, 50, 100)]
    [0.0, 0.4, 0.8]
    """

    frequency: int = 100

    def sparsity(self, step: Tensor) -> Tensor:
        """Return the share of zeros, float32 scalar, at `step`."""
        rest = (1.0 + ops.cos(math.pi * self.progress(step))) / 2.0
        return self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * rest


@register
@dataclasses.dataclass(frozen=True)
class ExponentialSparsity(_Ramp):
    """Removes, from update to update, the same share of what is left.

    The density 1 - s decays geometrically: `s(t) = 1 - (1 - initial) * ((1 - final) / (1 - initial))^p`, where p
    goes from 0 at `begin_step` to 1 at `end_step`; NNCF's "exponential" schedule.

    Args:
        initial_sparsity: Share of zeros at `begin_step`, in [0, 1).
        final_sparsity: Share of zeros from `end_step` on, in [0, 1).
        begin_step: First training step at which the mask is computed.
        end_step: Last training step at which the mask may change.
        frequency: Training steps from one computation of the mask to the next, as in `PolynomialSparsity`.

    Raises:
        ValueError: If an argument is out of its range or `end_step` is not after `begin_step`.

    Example:

    >>> import tfcompress as tfc
    >>> schedule = tfc.ExponentialSparsity(0.0, 0.84, begin_step=0, end_step=200)
    >>> [round(float(schedule.sparsity(step)), 4) for step in (0, 100, 200)]
    [0.0, 0.6, 0.84]
    """

    frequency: int = 100

    def sparsity(self, step: Tensor) -> Tensor:
        """Return the share of zeros, float32 scalar, at `step`."""
        density, ratio = 1.0 - self.initial_sparsity, (1.0 - self.final_sparsity) / (1.0 - self.initial_sparsity)
        return 1.0 - density * ops.exp(math.log(ratio) * self.progress(step))


OLD_NAMES = {
    "PolynomialDecay": PolynomialSparsity,
    "CosineDecay": CosineSparsity,
    "ExponentialDecay": ExponentialSparsity,
}
"""What schedules were called before, as in saved models: names that Keras has for schedules of learning rates."""

keras.saving.get_custom_objects().update({f"tfcompress>{name}": kind for name, kind in OLD_NAMES.items()})
