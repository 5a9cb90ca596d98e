"""tfmot's schedules, which count training steps from 1, and what they are here, where steps are counted from 0."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import keras
from keras import ops

import tfcompress.pruning.schedules as native
from tfcompress.core.arguments import short
from tfcompress.pruning.schedules.base import NEVER, check_sparsity, check_step, check_steps

Tensor = Any


class PruningSchedule(abc.ABC):
    """Says at a training step, of which the first is 1, whether masks are computed anew, and how sparse they are.

    A subclass of one's own implements `__call__` and `get_config`. Keras knows it from then on, so that a saved model
    finds it again.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable(package="tfmot")(cls)

    @abc.abstractmethod
    def __call__(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether masks are computed at `step`, and the share of zeros."""

    @abc.abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Return {"class_name": ..., "config": the constructor's arguments}, or the arguments themselves."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PruningSchedule:
        """Make a schedule from its constructor's arguments, or from `get_config`'s result."""
        return cls(**(config["config"] if set(config) == {"class_name", "config"} else config))

    # What schedules of one's own call, as tfmot's do.

    def _should_prune_in_step(self, step: Tensor, begin_step: int, end_step: int, frequency: int) -> Tensor:
        step = ops.cast(step, "int32")
        due = ops.logical_and(step >= begin_step, ops.equal(ops.mod(step - begin_step, frequency), 0))
        return due if end_step < 0 else ops.logical_and(due, step <= end_step)

    def _validate_step(self, begin_step: int, end_step: int, frequency: int, allow_negative_1: bool) -> None:
        if not allow_negative_1:
            check_step("end_step", end_step, 0)
        check_steps(begin_step, end_step, frequency)

    def _validate_sparsity(self, sparsity: float, variable_name: str) -> None:
        check_sparsity(variable_name, sparsity)


class _Known(PruningSchedule):
    """A schedule that this package has, too: its arguments are attributes of the same names."""

    arguments: tuple[str, ...]
    begin_step: int
    end_step: int
    frequency: int

    def get_config(self) -> dict[str, Any]:
        """Return the name of the class and the constructor's arguments."""
        config = {name: getattr(self, name) for name in self.arguments}
        return {"class_name": type(self).__name__, "config": config}

    @abc.abstractmethod
    def counted_from_0(self) -> native.Schedule:
        """Return the schedule of this package that does at each training step what this one does."""


class ConstantSparsity(_Known):
    """The same sparsity from `begin_step` on.

    Args:
        target_sparsity: Share of zeros, in [0, 1).
        begin_step: First training step at which the mask may be computed.
        end_step: Last one; -1: no end.
        frequency: Training steps from one computation of the mask to the next.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> schedule = ConstantSparsity(0.5, begin_step=0, frequency=100)
    >>> [step for step in range(1, 301) if schedule(step)[0]]
    [100, 200, 300]
    >>> schedule.counted_from_0().begin_step
    99
    """

    arguments = ("target_sparsity", "begin_step", "end_step", "frequency")

    def __init__(self, target_sparsity: float, begin_step: int, end_step: int = -1, frequency: int = 100):
        self._validate_step(begin_step, end_step, frequency, True)
        self._validate_sparsity(target_sparsity, "target_sparsity")
        self.target_sparsity = target_sparsity
        self.begin_step, self.end_step, self.frequency = begin_step, end_step, frequency

    def __call__(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether masks are computed at `step`, and the share of zeros, float32."""
        due = self._should_prune_in_step(step, self.begin_step, self.end_step, self.frequency)
        return due, ops.convert_to_tensor(self.target_sparsity, "float32")

    def counted_from_0(self) -> native.Schedule:
        """Return the same as a schedule of this package."""
        begin = (self.begin_step or self.frequency) - 1  # there is no step 0: what begins at it waits for the next
        end = self.end_step if self.end_step == -1 else self.end_step - 1
        if (end != -1 and end < begin) or self.end_step == 0:
            return native.ConstantSparsity(self.target_sparsity, begin_step=NEVER)
        return native.ConstantSparsity(self.target_sparsity, begin, end, self.frequency)


class PolynomialDecay(_Known):
    """Rises from one sparsity to another: `final + (initial - final) * (1 - p)^power`, p from 0 to 1.

    Args:
        initial_sparsity: Share of zeros at `begin_step`, in [0, 1).
        final_sparsity: Share of zeros at `end_step`, in [0, 1).
        begin_step: First training step at which the mask may be computed.
        end_step: Last one.
        power: Exponent.
        frequency: Training steps from one computation of the mask to the next.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    >>> schedule = PolynomialDecay(0.2, 0.8, begin_step=100, end_step=110)
    >>> [round(float(schedule(step)[1]), 4) for step in (100, 102, 105, 110)]
    [0.2, 0.4928, 0.725, 0.8]
    """

    arguments = ("initial_sparsity", "final_sparsity", "power", "begin_step", "end_step", "frequency")

    def __init__(  # noqa: PLR0917  tfmot's arguments in tfmot's order
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: int,
        end_step: int,
        power: float = 3,
        frequency: int = 100,
    ):
        self._validate_step(begin_step, end_step, frequency, False)
        self._validate_sparsity(initial_sparsity, "initial_sparsity")
        self._validate_sparsity(final_sparsity, "final_sparsity")
        self.initial_sparsity, self.final_sparsity, self.power = initial_sparsity, final_sparsity, power
        self.begin_step, self.end_step, self.frequency = begin_step, end_step, frequency

    def _share(self, progress: Any) -> Any:
        return self.final_sparsity + (self.initial_sparsity - self.final_sparsity) * (1 - progress) ** self.power

    def __call__(self, step: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether masks are computed at `step`, and the share of zeros, float32."""
        past = ops.cast(step, "float32") - float(self.begin_step)
        progress = ops.clip(past / float(self.end_step - self.begin_step), 0.0, 1.0)
        due = self._should_prune_in_step(step, self.begin_step, self.end_step, self.frequency)
        return due, self._share(progress)

    def counted_from_0(self) -> native.Schedule:
        """Return the same as a schedule of this package."""
        first, initial = self.begin_step, self.initial_sparsity
        if not first:  # there is no step 0: the ramp is entered at the first step at which masks are computed
            first = self.frequency
            initial = self._share(min(first / self.end_step, 1.0)) if self.end_step else self.final_sparsity
        if first > self.end_step:
            return native.ConstantSparsity(self.final_sparsity, begin_step=NEVER)
        if first == self.end_step:
            return native.OneShot(self.final_sparsity, self.end_step - 1)
        ends = first - 1, self.end_step - 1
        return native.PolynomialSparsity(initial, self.final_sparsity, *ends, self.power, self.frequency)


@keras.saving.register_keras_serializable(package="tfcompress")
@dataclasses.dataclass(frozen=True)
class CountedFrom0(native.Schedule):
    """A schedule of someone's own, which counts steps from 1, as one of this package.

    Args:
        schedule: A `PruningSchedule`.
    """

    schedule: PruningSchedule

    def updates(self, step: Tensor) -> Tensor:
        """Return whether masks are computed at `step`."""
        return ops.cast(self.schedule(ops.cast(step, "int32") + 1)[0], "bool")

    def sparsity(self, step: Tensor) -> Tensor:
        """Return the share of zeros, float32 scalar, at `step`."""
        return ops.cast(self.schedule(ops.cast(step, "int32") + 1)[1], "float32")

    def final(self) -> float:
        """Raise ValueError: the end of such a schedule isn't known."""
        raise ValueError(f"Expected a schedule with an end. Received: {self.schedule!r}, of which none is known.")

    def next_update(self, steps: int) -> int | None:
        """Raise ValueError: the steps of such a schedule aren't known."""
        raise ValueError(f"Expected a schedule whose steps are known. Received: {self.schedule!r}.")

    def get_config(self) -> dict[str, Any]:
        """Return the schedule, serialized."""
        return {"schedule": keras.saving.serialize_keras_object(self.schedule)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CountedFrom0:
        """Make one from `get_config`'s result."""
        return cls(keras.saving.deserialize_keras_object(config["schedule"]))


def counted_from_0(schedule: Any) -> native.Schedule:
    """Return a schedule of tfmot's kind as one of this package; one of these as it is.

    Raises:
        TypeError: If it is no schedule.
    """
    if isinstance(schedule, native.Schedule):
        return schedule
    known: tuple[type[_Known], ...] = (ConstantSparsity, PolynomialDecay)
    for kind in known if type(schedule).__module__.startswith("tensorflow_model_optimization.") else ():
        if type(schedule).__name__ == kind.__name__:
            schedule = kind.from_config(schedule.get_config())
    if type(schedule) in known:
        return schedule.counted_from_0()
    if isinstance(schedule, PruningSchedule):
        return CountedFrom0(schedule)
    raise TypeError(
        "Expected `pruning_schedule` to be a PruningSchedule, such as ConstantSparsity(0.5, begin_step=0) or "
        f"PolynomialDecay(...), or a schedule of tfcompress. Received: {short(schedule)}."
    )


def for_keras2(schedule: Any, original: Any) -> Any:
    """Return a schedule for tfmot itself, which reads files with its own classes.

    Args:
        schedule: Of this module, or of tfmot.
        original: tensorflow_model_optimization.
    """
    if type(schedule) in (ConstantSparsity, PolynomialDecay):
        made = schedule.get_config()
        return getattr(original.sparsity.keras, made["class_name"])(**made["config"])
    return schedule
