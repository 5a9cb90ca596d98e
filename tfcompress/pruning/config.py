"""What to prune, when and by how much."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from tfcompress.pruning.criteria import CRITERIA
from tfcompress.pruning.schedules import Schedule, as_schedule

GRANULARITIES = ("element",)
SCOPES = ("layer", "global")


def _known(name: str, value: Any, known: Any) -> None:
    if value not in tuple(known):
        raise ValueError(f"Expected `{name}` to be one of {', '.join(map(repr, known))}. Received: {value!r}.")


@dataclasses.dataclass(frozen=True)
class PruneConfig:
    """What is pruned, when and by how much.

    Args:
        schedule: A schedule, or a number in [0, 1): `ConstantSparsity` of it; or a function from the step to the
            sparsity, registered with `keras.saving.register_keras_serializable`: `FunctionSchedule` of it.
        criterion: What makes a weight important: "magnitude".
        granularity: What is removed at once: "element".
        scope: "layer": each weight reaches the sparsity by itself; "global": all together do, so that
            layers with small weights lose more of them.

    Raises:
        ValueError: If a field holds something else.

    Example:

    >>> import tfcompress as tfc
    >>> tfc.PruneConfig(0.5, scope="global").schedule
    ConstantSparsity(target_sparsity=0.5, begin_step=0, end_step=-1, frequency=100)
    """

    schedule: Schedule
    criterion: str = "magnitude"
    granularity: str = "element"
    scope: str = "layer"

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_schedule(self.schedule))
        _known("criterion", self.criterion, CRITERIA)
        _known("granularity", self.granularity, GRANULARITIES)
        _known("scope", self.scope, SCOPES)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in a form that JSON can hold."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "schedule": keras.saving.serialize_keras_object(self.schedule)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> PruneConfig:
        """Return the configuration that `to_dict` was called on."""
        return cls(**{**fields, "schedule": keras.saving.deserialize_keras_object(fields["schedule"])})
