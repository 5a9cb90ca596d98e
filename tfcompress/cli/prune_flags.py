"""What is pruned and how, from flags."""

from __future__ import annotations

import dataclasses
import numbers
import re
from collections.abc import Mapping
from typing import Any

from absl.flags import FlagValues

from tfcompress.cli.config_file import layer_configs
from tfcompress.cli.wrong_use import UsageError, refuse_without_effect
from tfcompress.core.arguments import check_choice, check_fields, short
from tfcompress.core.names import CRITERIA_ELSEWHERE, UNITS_ELSEWHERE, did_you_mean
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.pipeline.pruning_configs import removes_units, rising_schedule
from tfcompress.pruning import Block, ConstantSparsity, NofM, PruneConfig
from tfcompress.pruning.criteria import CRITERIA, needs_of
from tfcompress.pruning.granularity import STRUCTURES, Granularity
from tfcompress.pruning.running_statistics import GATHERED
from tfcompress.pruning.schedules.base import check_sparsity

_FIELDS = tuple(field.name for field in dataclasses.fields(PruneConfig))


def granularity_of(text: Any) -> str | Granularity:
    """Return what is removed at once, of a flag's value, or of a file's.

    Args:
        text: "element", "channel", "attention_head", "2:4" or the like, or "16x1" or the like.

    Raises:
        ValueError: If it is none of these.
    """
    if text in ("element", *STRUCTURES):
        return text
    found = re.fullmatch(r"(\d+)([:x])(\d+)", text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(
            "Expected granularity to be element, channel, attention_head, N:M such as 2:4, or ROWSxCOLS such as "
            f"16x1. Received: {text!r}.{did_you_mean(text, ('element', *STRUCTURES), UNITS_ELSEWHERE)}"
        )
    first, second = int(found[1]), int(found[3])
    return NofM(first, second) if found[2] == ":" else Block(first, second)


def check(values: FlagValues) -> None:
    """Raise UsageError if flags contradict each other; nothing is loaded for that."""
    config = config_of(values, values.sparsity, steps=100)
    if isinstance(config, LayerConfigs):
        names = ("sparsity", "criterion", "granularity", "scope", "threshold")
        refuse_without_effect(values, "with --config, whose file says it for each layer", *names)
    if not removes_units(config):
        how = f"--granularity={values.granularity}" if values.config is None else f"--config={values.config}"
        refuse_without_effect(values, f"with {how}", "shrink")


def config_of(values: FlagValues, sparsity: float, steps: int) -> PruneConfig | LayerConfigs:
    """Return the configuration that the flags describe, or that of each layer.

    Args:
        values: The job's flags.
        sparsity: To be reached after three quarters of the training.
        steps: Training steps.
    """
    if values.config is not None:
        return layer_configs(values.config, lambda value: read_config(value, steps))
    try:
        pattern = isinstance(granularity_of(values.granularity), NofM)
        return _made(
            steps,
            None if pattern and not values["sparsity"].present else sparsity,
            granularity=values.granularity,
            criterion=values.criterion,
            scope=values.scope,
            threshold=values.threshold,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def read_config(value: Any, steps: int) -> PruneConfig:
    """Return a config as a file has it: a sparsity, or fields by name.

    Args:
        value: 0.5, or such as {"sparsity": 0.5, "granularity": "2:4", "criterion": "l2"}: what flags of these names
            say; "schedule" instead of "sparsity" is as `PruneConfig.to_dict` makes it.
        steps: Training steps; a sparsity is reached after three quarters of them.

    Example:

    >>> read_config({"granularity": "2:4"}, steps=100).schedule
    ConstantSparsity(target_sparsity=0.5, begin_step=0, end_step=-1, frequency=4)
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return _made(steps, float(value))
    if not isinstance(value, Mapping):
        raise ValueError(f"Expected a sparsity, or fields of a PruneConfig. Received: {short(value)}.")
    fields = check_fields("a PruneConfig", value, ("sparsity", *_FIELDS))
    if "schedule" in fields:
        if "sparsity" in fields:
            raise ValueError("Expected one of `sparsity` and `schedule`. Received: both.")
        if isinstance(fields.get("granularity"), str):
            fields["granularity"] = granularity_of(fields["granularity"])
        return PruneConfig.from_dict(fields)
    return _made(steps, fields.pop("sparsity", None), **fields)


def _made(
    steps: int,
    sparsity: Any,
    *,
    granularity: str = "element",
    criterion: str = "magnitude",
    **fields: Any,
) -> PruneConfig:
    """Return a config with a schedule over the steps of a training; a pattern knows its sparsity."""
    units = granularity_of(granularity)
    check_choice("criterion", criterion, CRITERIA, also=CRITERIA_ELSEWHERE)
    # What is known of gradients comes with the first steps.
    late = any(name in GATHERED for name in needs_of(criterion))
    if isinstance(units, NofM):
        wanted = units.sparsity if sparsity is None else sparsity
        frequency = max(steps // 25, 1)
        schedule: Any = ConstantSparsity(wanted, begin_step=frequency if late else 0, frequency=frequency)
    elif sparsity is None:
        raise ValueError("Expected `sparsity` or `schedule`. Received: neither.")
    else:
        schedule = rising_schedule(check_sparsity("sparsity", sparsity), steps, from_second_update=late)
    return PruneConfig(schedule, criterion, units, **fields)
