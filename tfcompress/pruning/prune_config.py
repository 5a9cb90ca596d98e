"""What to prune, when and by how much."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras

from tfcompress.core.arguments import check_choice, check_fields, says_fields, short
from tfcompress.core.names import CRITERIA_ELSEWHERE, SCOPES_ELSEWHERE, UNITS_ELSEWHERE
from tfcompress.core.old_calls import accepts_old_fields
from tfcompress.pruning.allocation import Spread
from tfcompress.pruning.criteria import CRITERIA, Criterion, needs_of
from tfcompress.pruning.granularity import NAMED, STRUCTURES, Granularity, NofM
from tfcompress.pruning.schedules import Schedule, as_schedule

SCOPES = ("layer", "global", "flops", "bytes")
ALLOCATIONS = ("uniform", "erdos_renyi", "erdos_renyi_kernel")
OLD_FIELDS = {"targets": "allocation"}
"""Of `PruneConfig`, as in saved models: {the name that a field had: its name}."""

OF_UNITS = ("activation_frequency", "scale")
"""Statistics that are known of whole units only."""


@accepts_old_fields(**OLD_FIELDS)
@says_fields
@dataclasses.dataclass(frozen=True)
class PruneConfig:
    """What is pruned, when and by how much.

    Args:
        schedule: A schedule, or a number in [0, 1): `ConstantSparsity` of it; or a function from the step to the
            sparsity, registered with `keras.saving.register_keras_serializable`: `FunctionSchedule` of it.
        criterion: What makes a weight important: "magnitude" (|w|), "l2" (w^2: differs for units of several weights),
            "threshold" (|w| against `threshold`), "gradient" (|w * dL/dw|), "movement" (-w * dL/dw),
            "activation_frequency" (how often the unit is above 0 behind its activation: for ReLU and the like, of a
            linear unit it says little), "bn_scale" (|gamma| behind the channel), "random"; or
            a function `scores = f(weights, statistics)`, registered with
            `keras.saving.register_keras_serializable`, and marked by `tfcompress.pruning.needs` if it looks at
            statistics.
        granularity: What is removed at once: "element", `tfc.Block(rows, cols)`, `tfc.NofM(n, m)`; "channel" or
            "attention_head", which `tfc.shrink` then takes out of the model.
        scope: "layer": each kernel reaches the sparsity by itself; "global": all together do, so that layers with
            unimportant weights lose more of them, but not the last; "flops" or "bytes": the schedule says which share
            of the whole model's multiplications (of kernels and of attention, as `multiply_adds` counts them), or of
            the bytes of its kernels, is saved. Where channels of several layers compete, their scores count beside
            the mean of the channels that go together (for "magnitude", "l2", "gradient" and "movement", whose scale
            is each layer's own; the scores of other criteria are compared as they are).
        threshold: With criterion "threshold": weights below it are pruned, but no larger share than the schedule's.
        allocation: Of the layers with scope "layer": "uniform": all reach the schedule's sparsity; "erdos_renyi",
            "erdos_renyi_kernel": sparsities after the layers' shapes, that on the whole reach it (Evci et al., 2020);
            or {layer's name: sparsity at the schedule's end}. What `tfcompress.allocation` makes may name layers
            without channels, and for those that make the same channels the least of several counts.

    Raises:
        ValueError: If a field holds something else, or fields don't go together.

    Example:

    >>> import tfcompress as tfc
    >>> tfc.PruneConfig(0.5, scope="global").schedule
    ConstantSparsity(target_sparsity=0.5, begin_step=0, end_step=-1, frequency=100)
    """

    schedule: Schedule
    criterion: str | Criterion = "magnitude"
    granularity: str | Granularity = "element"
    scope: str = "layer"
    threshold: float | None = None
    allocation: str | Mapping[str, float] = "uniform"

    if TYPE_CHECKING:  # a field has what was made of what is given

        def __init__(  # noqa: PLR0917
            self,
            schedule: float | Schedule | Callable[[Any], Any],
            criterion: str | Criterion = ...,
            granularity: str | Granularity = ...,
            scope: str = ...,
            threshold: float | None = ...,
            allocation: str | Mapping[str, float] = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_schedule(self.schedule))
        if callable(self.criterion):
            _check_registered(self.criterion)
        else:
            check_choice("criterion", self.criterion, CRITERIA, " or a function", also=CRITERIA_ELSEWHERE)
        if not isinstance(self.granularity, Granularity):
            known = (*NAMED, *STRUCTURES)
            others = ", a tfcompress.Block or a tfcompress.NofM"
            check_choice("granularity", self.granularity, known, others, also=UNITS_ELSEWHERE)
        check_choice("scope", self.scope, SCOPES, also=SCOPES_ELSEWHERE)
        self._check_threshold()
        self._check_allocation()
        self._check_pattern()
        of_units = [name for name in needs_of(self.criterion) if name in OF_UNITS]
        if of_units and self.granularity not in STRUCTURES:
            raise ValueError(
                f"Expected granularity='channel' with criterion={_name(self.criterion)!r}, which knows whole channels "
                f"only. Received: granularity={self.granularity!r}."
            )
        self._check_regrowth()

    def _check_regrowth(self) -> None:
        if self.schedule.falls:
            raise ValueError(
                "Expected a schedule that doesn't fall: what is pruned has no score by which it could come back. "
                f"Received: {self.schedule!r}. Take tfcompress.Regrowth, which exchanges weights at a constant "
                "sparsity, or one that rises."
            )
        if not self.schedule.regrows:
            return
        if self.granularity in STRUCTURES:
            raise ValueError(
                "Expected a schedule that doesn't regrow with whole channels or heads. Received: "
                f"granularity={self.granularity!r}, schedule={self.schedule!r}. Take another schedule."
            )
        if needs_of(self.criterion) or self.criterion == "threshold":
            raise ValueError(
                "Expected a criterion that looks at weights alone with a schedule that regrows: it keeps the number of "
                f"weights, and drops by size from step 0 on. Received: criterion={_name(self.criterion)!r}. Take "
                "'magnitude'."
            )

    def _check_threshold(self) -> None:
        value = self.threshold
        if (self.criterion == "threshold") != (value is not None):
            raise ValueError(
                "Expected `threshold` with criterion='threshold', and with no other. Received: "
                f"criterion={_name(self.criterion)!r}, threshold={value!r}."
            )
        if value is None:
            return
        if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 < value < math.inf:
            raise ValueError(f"Expected `threshold` to be a number above 0. Received: threshold={value!r}.")
        if isinstance(self.granularity, NofM):
            raise ValueError(
                f"Expected no threshold with granularity={self.granularity!r}, which keeps a fixed number of weights. "
                f"Received: threshold={value!r}."
            )

    def _check_allocation(self) -> None:
        if isinstance(self.allocation, Mapping):
            if not self.allocation:
                raise ValueError("Expected `allocation` to have a sparsity for a layer. Received: allocation={}.")
            for name, value in self.allocation.items():
                if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= value < 1:
                    raise ValueError(
                        f"Expected sparsities in [0, 1) in `allocation`. Received: {value!r} for layer {name!r}."
                    )
            kind = Spread if isinstance(self.allocation, Spread) else dict
            shares = kind((str(name), float(value)) for name, value in self.allocation.items())
            object.__setattr__(self, "allocation", shares)
        else:
            check_choice(
                "allocation", self.allocation, ALLOCATIONS, " or {layer: sparsity}", also={"erk": ALLOCATIONS[2]}
            )
        if self.allocation != "uniform" and (self.scope != "layer" or isinstance(self.granularity, NofM)):
            raise ValueError(
                "Expected allocation='uniform' unless each layer has a sparsity of its own (scope='layer', no N:M). "
                f"Received: allocation={self.allocation!r}, scope={self.scope!r}, granularity={self.granularity!r}."
            )

    def _check_pattern(self) -> None:
        pattern = self.granularity
        if not isinstance(pattern, NofM):
            return
        if self.scope != "layer" or self.schedule.regrows:
            raise ValueError(
                f"Expected scope='layer' and a schedule that doesn't regrow with {pattern}, which keeps as many "
                f"weights everywhere. Received: scope={self.scope!r}, schedule={self.schedule!r}."
            )
        final = self.schedule.final()
        if abs(final - pattern.sparsity) > 1e-3:
            raise ValueError(
                f"Expected a schedule that ends at {pattern.sparsity:.4g}, the share of zeros of {pattern}. Received: "
                f"{self.schedule!r}, which ends at {final:.4g}. Give {pattern.sparsity:.4g}."
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """The statistics that are gathered for the criterion, and for regrowth."""
        return tuple(dict.fromkeys((*needs_of(self.criterion), *(("gradient",) if self.schedule.regrows else ()))))

    @property
    def units(self) -> Granularity:
        """How a single kernel is divided."""
        return self.granularity if isinstance(self.granularity, Granularity) else NAMED["element"]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in a form that JSON can hold."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: _plain(value) for name, value in fields.items()}

    @classmethod
    def get(cls, config: Any) -> PruneConfig:
        """Return a configuration itself, or that of a schedule or a sparsity.

        >>> PruneConfig.get(0.5).schedule.target_sparsity
        0.5
        """
        return config if isinstance(config, cls) else cls(config)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> PruneConfig:
        """Return the configuration that `to_dict` was called on."""
        known = (field.name for field in dataclasses.fields(cls))
        if isinstance(fields, Mapping):
            fields = {OLD_FIELDS.get(name, name): value for name, value in fields.items()}
        fields = check_fields("a PruneConfig", fields, known, least=("schedule",))
        load = keras.saving.deserialize_keras_object
        made = {name: load(x) if isinstance(x, dict) and "class_name" in x else x for name, x in fields.items()}
        return cls(**made)


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule | Granularity) or callable(value):
        return keras.saving.serialize_keras_object(value)
    return dict(value) if isinstance(value, Spread) else value


def _name(criterion: Any) -> str:
    return criterion if isinstance(criterion, str) else str(getattr(criterion, "__name__", criterion))


def _check_registered(criterion: Callable[..., Any]) -> None:
    # What has no name of its own, as an object that can be called, is never registered.
    name = keras.saving.get_registered_name(criterion) if hasattr(criterion, "__name__") else None
    if name is None or keras.saving.get_registered_object(name) is not criterion:
        raise ValueError(
            "Expected a criterion that is registered, so that a saved model finds it again. Received: "
            f"{short(_name(criterion))}. Decorate it with @keras.saving.register_keras_serializable('package')."
        )
