"""A config of one layer as a file has it: in short, or fields by name."""

from __future__ import annotations

import dataclasses
import numbers
import re
from collections.abc import Mapping
from typing import Any

from tfcompress.clustering import ClusterConfig
from tfcompress.core.arguments import check_choice, check_fields, is_whole, short
from tfcompress.core.names import CRITERIA_ELSEWHERE, UNITS_ELSEWHERE, did_you_mean
from tfcompress.pipeline.pruning_configs import rising_schedule
from tfcompress.pruning import Block, ConstantSparsity, NofM, PruneConfig
from tfcompress.pruning.criteria import CRITERIA, needs_of
from tfcompress.pruning.granularity import STRUCTURES, Granularity
from tfcompress.pruning.running_statistics import GATHERED
from tfcompress.pruning.schedules.base import check_sparsity
from tfcompress.quantization.quantize_config import ActivationSpec, QuantizeConfig, WeightSpec

_PRUNE = tuple(field.name for field in dataclasses.fields(PruneConfig))
_QUANTIZE = tuple(field.name for field in dataclasses.fields(QuantizeConfig))


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


def read_prune(value: Any, steps: int) -> PruneConfig:
    """Return a config as a file has it: a sparsity, or fields by name.

    Args:
        value: 0.5, or such as {"sparsity": 0.5, "granularity": "2:4", "criterion": "l2"}: what flags of these names
            say; "schedule" instead of "sparsity" is as `PruneConfig.to_dict` makes it.
        steps: Training steps; a sparsity is reached after three quarters of them.

    Example:

    >>> read_prune({"granularity": "2:4"}, steps=100).schedule
    ConstantSparsity(target_sparsity=0.5, begin_step=0, end_step=-1, frequency=4)
    """
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return prune_config(steps, float(value))
    if not isinstance(value, Mapping):
        raise ValueError(f"Expected a sparsity, or fields of a PruneConfig. Received: {short(value)}.")
    fields = check_fields("a PruneConfig", value, ("sparsity", *_PRUNE))
    if "schedule" in fields:
        if "sparsity" in fields:
            raise ValueError("Expected one of `sparsity` and `schedule`. Received: both.")
        if isinstance(fields.get("granularity"), str):
            fields["granularity"] = granularity_of(fields["granularity"])
        return PruneConfig.from_dict(fields)
    return prune_config(steps, fields.pop("sparsity", None), **fields)


def prune_config(
    steps: int,
    sparsity: Any,
    *,
    granularity: str = "element",
    criterion: str = "magnitude",
    **fields: Any,
) -> PruneConfig:
    """Return a config with a schedule over the steps of a training; a pattern knows its sparsity.

    Args:
        steps: Of the training.
        sparsity: To be reached after three quarters of it; `None`: that of a pattern.
        granularity: As `granularity_of` takes it.
        criterion: As in `PruneConfig`.
        **fields: Others of a `PruneConfig`.
    """
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


def read_cluster(value: Any) -> ClusterConfig:
    """Return a config as a file has it: a number of clusters, or fields by name.

    >>> read_cluster({"number_of_clusters": 4, "init": "linear"}).init
    'linear'
    """
    if is_whole(value):
        return ClusterConfig(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"Expected a number of clusters, or fields of a ClusterConfig. Received: {short(value)}.")
    return ClusterConfig.from_dict(value)


def read_quantize(value: Any) -> QuantizeConfig:
    """Return a config as a file has it: the name of a recipe, or fields that differ from those of one.

    Args:
        value: "int8", or such as {"recipe": "int8_weights", "weights": {"bits": 4}}; without a recipe, of int8.

    Example:

    >>> read_quantize({"weights": {"bits": 4}, "activations": None}).weights
    WeightSpec(bits=4, granularity='per_channel', range='minmax')
    """
    if isinstance(value, str):
        return QuantizeConfig.get(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"Expected the name of a recipe, or fields of a QuantizeConfig. Received: {short(value)}.")
    fields = check_fields("a QuantizeConfig", value, ("recipe", *_QUANTIZE))
    made = QuantizeConfig.get(fields.pop("recipe", "int8")).to_dict()
    for name, kind in (("weights", WeightSpec), ("activations", ActivationSpec)):
        if isinstance(fields.get(name), Mapping):
            known = [field.name for field in dataclasses.fields(kind)]
            own = check_fields(f"`{name}`, a {kind.__name__}", fields[name], known)
            fields[name] = {**(made[name] or dataclasses.asdict(kind())), **own}
    return QuantizeConfig.from_dict({**made, **fields})


def whole_sparsity(value: Any) -> float | None:
    """Return the sparsity that a config of a pruning says in short, for all layers; `None` if it says another thing.

    >>> whole_sparsity(0.5), whole_sparsity({"sparsity": 0.6}), whole_sparsity({"granularity": "2:4"})
    (0.5, 0.6, None)
    """
    share = value.get("sparsity") if isinstance(value, Mapping) else value
    return float(share) if isinstance(share, numbers.Real) else None
