"""A user's own function of the step as a schedule, and everything else that may stand for one."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfcompress.pruning.schedules.base import Schedule, Tensor, check_steps, register
from tfcompress.pruning.schedules.constant import ConstantSparsity

_PROBES = 64


@register
@dataclasses.dataclass(frozen=True)
class FunctionSchedule(Schedule):
    """A user's function of the training step.

    It had better not fall: what is pruned has no score, so that weights which a lower sparsity lets come back are those
    that stand first in the kernel. `Regrowth` chooses them.

    Args:
        function: From the step (int32 scalar) to the share of zeros in [0, 1), by `keras.ops`; registered with
            `keras.saving.register_keras_serializable`, so that the pruned model can be saved and loaded.
        begin_step: First training step at which the mask is computed.
        end_step: Last training step at which the mask may change; -1: no end.
        frequency: Training steps from one computation of the mask to the next.

    Raises:
        ValueError: If the function isn't registered, can't be traced, or returns something else at one of the
            first updates (of up to 64 of all, if there is an end); or if a step is out of its range.

    Example:

    >>> import keras, tfcompress as tfc
    >>> @keras.saving.register_keras_serializable(package="example")
    ... def halving(step):
    ...     return 1.0 - 0.5 ** keras.ops.floor(keras.ops.cast(step, "float32") / 100.0)
    >>> schedule = tfc.FunctionSchedule(halving, end_step=300)
    >>> [float(schedule.sparsity(step)) for step in (0, 100, 200)], schedule.final()
    ([0.0, 0.5, 0.75], 0.875)
    """

    function: Callable[[Tensor], Tensor]
    begin_step: int = 0
    end_step: int = -1
    frequency: int = 100

    def __post_init__(self) -> None:
        check_steps(self.begin_step, self.end_step, self.frequency)
        _check_registered(self.function)
        _check_traceable(self.function)
        last = self.begin_step + (_PROBES - 1) * self.frequency if self.end_step == -1 else self.end_step
        steps = range(self.begin_step, last + 1, self.frequency)
        for place in np.unique(np.linspace(0, len(steps) - 1, _PROBES).round().astype(int)):
            value = float(ops.convert_to_numpy(self.function(ops.convert_to_tensor(steps[place], "int32"))))
            if not 0 <= value < 1:
                raise ValueError(
                    f"Expected `function` to return a sparsity in [0, 1). Received: {value:.6g} at step "
                    f"{steps[place]} from {self.function!r}. Bound it, for example with keras.ops.clip."
                )

    def sparsity(self, step: Tensor) -> Tensor:
        """Return what the function gives, float32 scalar."""
        return ops.cast(self.function(ops.cast(step, "int32")), "float32")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the function by its registered name."""
        return {**super().get_config(), "function": keras.saving.serialize_keras_object(self.function)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Schedule:
        """Make a schedule from `get_config`'s result."""
        return cls(**{**config, "function": keras.saving.deserialize_keras_object(config["function"])})


def _check_registered(function: Any) -> None:
    name = getattr(function, "__name__", None)
    known = name and keras.saving.get_registered_object(keras.saving.get_registered_name(function))
    if isinstance(function, type) or known is not function:
        raise ValueError(
            "Expected a function of the step that can be saved by name, or a schedule. Received: "
            f"{function!r}, which isn't registered with Keras. Define it with `def`, below "
            '@keras.saving.register_keras_serializable(package="mine"); for a callable object, subclass '
            "tfcompress.Schedule."
        )


class _Traced(keras.Operation):
    """Knows what a function makes of a tensor without a value."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def call(self, step: Tensor) -> Tensor:
        return self.function(step)


def _check_traceable(function: Callable[[Tensor], Tensor]) -> None:
    try:
        spec = _Traced(function).compute_output_spec(keras.KerasTensor((), "int32"))
    except Exception as error:
        raise ValueError(
            "Expected `function` to map the step, a tensor, to a sparsity in terms of keras.ops. Received: "
            f"{function!r}, which raised {type(error).__name__}. Take keras.ops.minimum for min, keras.ops.where for "
            "if, keras.ops.cast for float."
        ) from error
    shape = tuple(getattr(spec, "shape", ()))
    if shape:
        raise ValueError(f"Expected `function` to return a scalar. Received: shape {shape} from {function!r}.")


def as_schedule(value: Any) -> Schedule:
    """Return a schedule: `value` itself, `ConstantSparsity` of a number, `FunctionSchedule` of a function.

    Raises:
        ValueError: If it is something else, a number outside of [0, 1), or a function that isn't registered.
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return ConstantSparsity(float(value))
    if callable(value) and not isinstance(value, type):
        return FunctionSchedule(value)
    raise ValueError(
        "Expected a schedule (such as tfcompress.PolynomialSparsity), a sparsity in [0, 1) or a registered function of "
        f"the step. Received: {value!r} of type {type(value).__name__}."
    )
