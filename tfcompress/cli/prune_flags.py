"""What is pruned and how, from flags."""

from __future__ import annotations

import re
from typing import Any

from absl.flags import FlagValues

from tfcompress.cli.wrong_use import UsageError, refuse_without_effect
from tfcompress.data.dataset import Dataset
from tfcompress.pipeline.compress_job import rising_schedule
from tfcompress.pruning import Block, ConstantSparsity, NofM, PruneConfig
from tfcompress.pruning.criteria import needs_of
from tfcompress.pruning.granularity import STRUCTURES, Granularity
from tfcompress.pruning.running_statistics import GATHERED

SAMPLES = 1024
"""Of the training data, on which it is counted how often units fire."""


def granularity_of(text: str) -> str | Granularity:
    """Return what is removed at once, of a flag's value.

    Args:
        text: "element", "channel", "attention_head", "2:4" or the like, or "16x1" or the like.

    Raises:
        UsageError: If it is none of these.

    Example:

    >>> granularity_of("2:4"), granularity_of("16x1"), granularity_of("channel")
    (NofM(n=2, m=4), Block(rows=16, cols=1, pooling='AVG'), 'channel')
    """
    if text in ("element", *STRUCTURES):
        return text
    found = re.fullmatch(r"(\d+)([:x])(\d+)", text)
    if found is None:
        raise UsageError(
            "Expected --granularity to be element, channel, attention_head, N:M such as 2:4, or ROWSxCOLS such as "
            f"16x1. Received: {text!r}."
        )
    first, second = int(found[1]), int(found[3])
    try:
        return NofM(first, second) if found[2] == ":" else Block(first, second)
    except ValueError as error:
        raise UsageError(str(error)) from error


def check(values: FlagValues) -> None:
    """Raise UsageError if flags contradict each other; nothing is loaded for that."""
    config = config_of(values, values.sparsity, steps=100)
    if config.granularity not in STRUCTURES:
        refuse_without_effect(values, f"with --granularity={values.granularity}", "shrink")


def config_of(values: FlagValues, sparsity: float, steps: int) -> PruneConfig:
    """Return the configuration that the flags describe.

    Args:
        values: The program's flags.
        sparsity: To be reached after three quarters of the training.
        steps: Training steps.
    """
    granularity = granularity_of(values.granularity)
    # What is known of gradients comes with the first steps.
    late = any(name in GATHERED for name in needs_of(values.criterion))
    if isinstance(granularity, NofM):
        wanted = sparsity if values["sparsity"].present else granularity.sparsity
        frequency = max(steps // 25, 1)
        schedule: Any = ConstantSparsity(wanted, begin_step=frequency if late else 0, frequency=frequency)
    else:
        schedule = rising_schedule(sparsity, steps, from_second_update=late)
    try:
        return PruneConfig(schedule, values.criterion, granularity, values.scope, values.threshold)
    except ValueError as error:
        raise UsageError(str(error)) from error


def data_for(config: PruneConfig, data: Dataset) -> Any:
    """Return what `tfcompress.prune` gathers statistics from beforehand: nothing, but for how often units fire."""
    return data.train.drawn(SAMPLES) if "activation_frequency" in config.needs else None
