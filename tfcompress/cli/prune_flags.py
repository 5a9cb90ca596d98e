"""What is pruned and how, from flags."""

from __future__ import annotations

from absl.flags import FlagValues

from tfcompress.cli.wrong_use import UsageError, refuse_without_effect
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.pipeline.pruning_configs import removes_units
from tfcompress.pruning import NofM, PruneConfig
from tfcompress.recipes.config_file import layer_configs
from tfcompress.recipes.written_configs import granularity_of, prune_config, read_prune


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
        return layer_configs(values.config, lambda value: read_prune(value, steps))
    try:
        pattern = isinstance(granularity_of(values.granularity), NofM)
        return prune_config(
            steps,
            None if pattern and not values["sparsity"].present else sparsity,
            granularity=values.granularity,
            criterion=values.criterion,
            scope=values.scope,
            threshold=values.threshold,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
